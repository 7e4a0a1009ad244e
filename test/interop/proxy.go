package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"net/netip"
	"os"

	"github.com/quic-go/quic-go/http3"
	"github.com/yosida95/uritemplate/v3"
)

// runProxy gives every client that has the token in MASQUE_VPN_TOKEN the same addresses and routes; one at a time is served.
func runProxy(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	listen := flags.String("listen", "", "host and port of the UDP socket")
	target := flags.String("url", "", "the CONNECT-IP URL that clients use")
	cert := flags.String("cert", "", "PEM of our certificate")
	key := flags.String("key", "", "PEM of its key")
	tun := flags.String("tun", "", "name of the TUN interface")
	assign := flags.String("assign", "", "the client's addresses, as prefixes")
	advertise := flags.String("advertise", "", "prefixes that are reached by us, IPv4 first, ascending")
	flags.Parse(args)

	template, err := uritemplate.New(*target)
	if err != nil {
		return err
	}
	assigned, err := parsePrefixes(*assign)
	if err != nil {
		return err
	}
	advertised, err := parsePrefixes(*advertise)
	if err != nil {
		return err
	}
	tlsConfig, err := serverTLS(*cert, *key)
	if err != nil {
		return err
	}
	device, err := openTun(*tun)
	if err != nil {
		return err
	}
	for _, prefix := range assigned {
		if err := device.addRoute(prefix); err != nil {
			return err
		}
	}
	address, err := netip.ParseAddrPort(*listen)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
	if err != nil {
		return err
	}
	authorization := "Bearer " + os.Getenv("MASQUE_VPN_TOKEN")
	server := &http3.Server{
		TLSConfig:       tlsConfig,
		QUICConfig:      quicConfig(),
		EnableDatagrams: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != authorization {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			t, status, err := accept(ctx, w, r, template, assigned, advertised)
			if err != nil {
				report(map[string]any{"event": "rejected", "status": status, "why": err.Error()})
				if status != 0 {
					w.WriteHeader(status)
				}
				return
			}
			report(map[string]any{"event": "open", "remote": r.RemoteAddr})
			err = carry(ctx, t, device)
			t.Close()
			report(map[string]any{"event": "closed", "orderly": errors.Is(err, net.ErrClosed)})
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	report(map[string]any{"event": "listening"})
	if err := server.Serve(socket); ctx.Err() == nil {
		return err
	}
	return nil
}
