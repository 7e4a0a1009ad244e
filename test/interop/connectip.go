//go:build !v01

package main

import (
	"context"
	"crypto/tls"
	"net/netip"

	connectip "github.com/quic-go/connect-ip-go"
	"github.com/quic-go/quic-go"
	"github.com/yosida95/uritemplate/v3"
)

// dial opens a tunnel with the token in the Authorization field, and asks for addresses once it has some. Wherever the URL
// leads, it goes to connectTo.
func dial(ctx context.Context, options dialOptions) (tunnel, configuration, func(), error) {
	var given configuration
	template, err := uritemplate.New(options.url)
	if err != nil {
		return nil, given, nil, err
	}
	request, err := connectip.NewRequest(ctx, template)
	if err != nil {
		return nil, given, nil, err
	}
	request.Header().Set("Authorization", "Bearer "+options.token)
	transport := connectip.Transport{
		TLSClientConfig: options.tls,
		QUICConfig:      quicConfig(),
		DialAddr: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, options.connectTo, tlsConfig, config)
		},
	}
	conn, response, err := transport.Dial(request)
	if err != nil {
		if response != nil {
			err = &refusedError{status: response.StatusCode}
		}
		return nil, given, nil, err
	}
	end := func() { conn.Close() }
	if given, err = configure(ctx, conn); err != nil {
		end()
		return nil, given, nil, err
	}
	return conn, given, end, nil
}

func configure(ctx context.Context, conn *connectip.Conn) (given configuration, err error) {
	assigned, err := conn.ReceiveAddressAssignment(ctx)
	if err != nil {
		return given, err
	}
	for _, address := range assigned {
		given.addresses = append(given.addresses, address.IPPrefix)
	}
	routes, err := conn.Routes(ctx)
	if err != nil {
		return given, err
	}
	for _, route := range routes {
		given.routes = append(given.routes, rangeToPrefixes(route.StartIP, route.EndIP)...)
	}
	wishes := make([]netip.Prefix, 0, len(given.addresses))
	for _, address := range given.addresses {
		wishes = append(wishes, netip.PrefixFrom(unspecifiedLike(address.Addr()), address.Bits()))
	}
	ids, err := conn.RequestAddresses(wishes)
	if err != nil {
		return given, err
	}
	answers, err := conn.ReceiveAddressAssignment(ctx)
	if err != nil {
		return given, err
	}
	for _, id := range ids {
		for _, answer := range answers {
			if answer.RequestID == id && !answer.Rejected() {
				given.requested = append(given.requested, answer.IPPrefix)
			}
		}
	}
	return given, nil
}

func unspecifiedLike(address netip.Addr) netip.Addr {
	if address.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

type parseError = connectip.ProxyRequestParseError

var parseRequest = connectip.ParseProxyRequest

func assign(_ context.Context, conn *connectip.Conn, prefixes []netip.Prefix) error {
	return conn.AssignAddresses(prefixes)
}

func advertise(_ context.Context, conn *connectip.Conn, routes []connectip.IPRoute) error {
	return conn.AdvertiseRoute(routes)
}
