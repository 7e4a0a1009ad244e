package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const maxPacketBytes = 65536

// tunMTU leaves room for the tunnel's headers in packets of initialPacketSize, and is what IPv6 needs.
const tunMTU = 1280

// tunDevice is a TUN interface. Its packets go to the tunnel that is current, or nowhere.
type tunDevice struct {
	name    string
	file    *os.File
	current atomic.Pointer[tunnel]
}

func openTun(name string) (*tunDevice, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("TUN device %s: %w", name, err)
	}
	device := &tunDevice{name: name, file: os.NewFile(uintptr(fd), "tun")}
	if err := ip("link", "set", "dev", name, "mtu", strconv.Itoa(tunMTU), "up"); err != nil {
		return nil, err
	}
	go device.readAll()
	return device, nil
}

func (d *tunDevice) addAddress(prefix netip.Prefix) error {
	words := []string{"address", "add", prefix.String(), "dev", d.name}
	if prefix.Addr().Is6() {
		words = append(words, "nodad")
	}
	return ip(words...)
}

func (d *tunDevice) addRoute(prefix netip.Prefix) error {
	return ip("route", "add", prefix.String(), "dev", d.name)
}

func (d *tunDevice) write(packet []byte) {
	// The kernel refuses what is no packet; the next one may be.
	_, _ = d.file.Write(packet)
}

func (d *tunDevice) readAll() {
	packet := make([]byte, maxPacketBytes)
	for {
		n, err := d.file.Read(packet)
		if err != nil {
			return
		}
		t := d.current.Load()
		if t == nil {
			continue
		}
		// An error means that the tunnel has ended, which its reader notices.
		if icmp, err := (*t).WritePacket(packet[:n]); err == nil && len(icmp) > 0 {
			d.write(icmp)
		}
	}
}

func ip(words ...string) error {
	if output, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(words, " "), err, output)
	}
	return nil
}
