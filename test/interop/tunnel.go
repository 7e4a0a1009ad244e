package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// tunnel is what the Conn of every version of connect-ip-go can do.
type tunnel interface {
	ReadPacket(packet []byte) (int, error)
	WritePacket(packet []byte) (icmp []byte, err error)
	Close() error
}

// configuration is what a proxy gave to its client.
type configuration struct {
	addresses []netip.Prefix
	routes    []netip.Prefix
	// Answers to our own address requests, where this version can make them.
	requested []netip.Prefix
}

// dialOptions say which proxy to open a tunnel to, and how.
type dialOptions struct {
	url       string
	connectTo string
	token     string
	tls       *tls.Config
}

// refusedError is a response that opens no tunnel.
type refusedError struct{ status int }

func (e *refusedError) Error() string { return fmt.Sprintf("the proxy answered %d", e.status) }

// An IPv6 packet of 1280 bytes must fit into a datagram from the first one on.
const initialPacketSize = 1350

func quicConfig() *quic.Config {
	return &quic.Config{EnableDatagrams: true, InitialPacketSize: initialPacketSize}
}

func clientTLS(caFile, serverName string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", caFile)
	}
	return &tls.Config{RootCAs: roots, ServerName: serverName, NextProtos: []string{http3.NextProtoH3}}, nil
}

func serverTLS(certFile, keyFile string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}), nil
}

// carry moves packets between the tunnel and the device until the tunnel or the context ends. With the context it closes the
// tunnel, and returns when the peer has been told.
func carry(ctx context.Context, t tunnel, device *tunDevice) error {
	device.current.Store(&t)
	defer device.current.CompareAndSwap(&t, nil)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		t.Close()
	})
	defer stop()
	packet := make([]byte, maxPacketBytes)
	for {
		n, err := t.ReadPacket(packet)
		if ctx.Err() != nil {
			<-closed
			return nil
		}
		if err != nil {
			return fmt.Errorf("the tunnel ended: %w", err)
		}
		device.write(packet[:n])
	}
}
