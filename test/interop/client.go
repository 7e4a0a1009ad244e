package main

import (
	"context"
	"errors"
	"flag"
	"net/url"
	"os"
	"time"
)

const connectTimeout = 10 * time.Second

// runClient opens a tunnel, puts it on a TUN device and carries packets until SIGTERM. The token is in MASQUE_VPN_TOKEN.
func runClient(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	target := flags.String("url", "", "the proxy's CONNECT-IP URL")
	connectTo := flags.String("connect-to", "", "host and port to go to")
	ca := flags.String("ca", "", "PEM of the authority of the proxy's certificate")
	tun := flags.String("tun", "", "name of the TUN interface")
	flags.Parse(args)

	parsed, err := url.Parse(*target)
	if err != nil {
		return err
	}
	tlsConfig, err := clientTLS(*ca, parsed.Hostname())
	if err != nil {
		return err
	}
	options := dialOptions{url: *target, connectTo: *connectTo, token: os.Getenv("MASQUE_VPN_TOKEN"), tls: tlsConfig}
	connectCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	t, given, end, err := dial(connectCtx, options)
	var refused *refusedError
	if errors.As(err, &refused) {
		report(map[string]any{"event": "refused", "status": refused.status})
	}
	if err != nil {
		return err
	}
	defer end()

	device, err := openTun(*tun)
	if err != nil {
		return err
	}
	for _, address := range given.addresses {
		if err := device.addAddress(address); err != nil {
			return err
		}
	}
	for _, route := range given.routes {
		if err := device.addRoute(route); err != nil {
			return err
		}
	}
	report(map[string]any{
		"event": "open", "addresses": given.addresses, "routes": given.routes, "requested": given.requested,
	})
	err = carry(ctx, t, device)
	report(map[string]any{"event": "ended"})
	return err
}
