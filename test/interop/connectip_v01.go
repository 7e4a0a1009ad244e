//go:build v01

package main

import (
	"context"
	"net/netip"
	"net/url"

	connectip "github.com/quic-go/connect-ip-go"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/yosida95/uritemplate/v3"
)

// dial opens a tunnel with the token in the URL's query: this version cannot add fields. Wherever the URL leads, it goes to
// connectTo.
func dial(ctx context.Context, options dialOptions) (tunnel, configuration, func(), error) {
	var given configuration
	template, err := uritemplate.New(options.url + "?token=" + url.QueryEscape(options.token))
	if err != nil {
		return nil, given, nil, err
	}
	connection, err := quic.DialAddr(ctx, options.connectTo, options.tls, quicConfig())
	if err != nil {
		return nil, given, nil, err
	}
	end := func() { connection.CloseWithError(0, "") }
	conn, response, err := connectip.Dial(ctx, (&http3.Transport{EnableDatagrams: true}).NewClientConn(connection), template)
	if err != nil {
		end()
		if response != nil {
			err = &refusedError{status: response.StatusCode}
		}
		return nil, given, nil, err
	}
	if given, err = configure(ctx, conn); err != nil {
		end()
		return nil, given, nil, err
	}
	return conn, given, end, nil
}

func configure(ctx context.Context, conn *connectip.Conn) (given configuration, err error) {
	if given.addresses, err = conn.LocalPrefixes(ctx); err != nil {
		return given, err
	}
	routes, err := conn.Routes(ctx)
	if err != nil {
		return given, err
	}
	for _, route := range routes {
		given.routes = append(given.routes, rangeToPrefixes(route.StartIP, route.EndIP)...)
	}
	return given, nil
}

type parseError = connectip.RequestParseError

var parseRequest = connectip.ParseRequest

func assign(ctx context.Context, conn *connectip.Conn, prefixes []netip.Prefix) error {
	return conn.AssignAddresses(ctx, prefixes)
}

func advertise(ctx context.Context, conn *connectip.Conn, routes []connectip.IPRoute) error {
	return conn.AdvertiseRoute(ctx, routes)
}
