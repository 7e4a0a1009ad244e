package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const fetchTimeout = 20 * time.Second

// innerQUIC is for HTTP/3 inside of a tunnel: all packets of full size have 1200 bytes, the least that QUIC needs of a path.
func innerQUIC() *quic.Config {
	return &quic.Config{InitialPacketSize: 1200, DisablePathMTUDiscovery: true}
}

// runFetch writes what a URL has to standard output: by TCP for http, by HTTP/3 for https.
func runFetch(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fetch", flag.ExitOnError)
	target := flags.String("url", "", "what to get")
	ca := flags.String("ca", "", "PEM of the server's authority, for https")
	flags.Parse(args)

	parsed, err := url.Parse(*target)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: fetchTimeout}
	if parsed.Scheme == "https" {
		tlsConfig, err := clientTLS(*ca, parsed.Hostname())
		if err != nil {
			return err
		}
		transport := &http3.Transport{TLSClientConfig: tlsConfig, QUICConfig: innerQUIC()}
		defer transport.Close()
		client.Transport = transport
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, *target, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// runServeHTTP3 serves the files of a directory by HTTP/3 until SIGTERM.
func runServeHTTP3(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve-http3", flag.ExitOnError)
	listen := flags.String("listen", "", "host and port of the UDP socket")
	cert := flags.String("cert", "", "PEM of our certificate")
	key := flags.String("key", "", "PEM of its key")
	directory := flags.String("directory", "", "what to serve")
	flags.Parse(args)

	tlsConfig, err := serverTLS(*cert, *key)
	if err != nil {
		return err
	}
	listener, err := quic.ListenAddrEarly(*listen, tlsConfig, innerQUIC())
	if err != nil {
		return err
	}
	server := &http3.Server{Handler: http.FileServer(http.Dir(*directory))}
	context.AfterFunc(ctx, func() { server.Close() })
	report(map[string]any{"event": "listening"})
	if err := server.ServeListener(listener); ctx.Err() == nil {
		return err
	}
	return nil
}
