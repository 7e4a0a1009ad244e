//go:build v01

package main

import (
	"context"
	"errors"
	"net/http"
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

// accept opens a tunnel for a request, or says why not and with which status.
func accept(
	ctx context.Context,
	w http.ResponseWriter,
	r *http.Request,
	template *uritemplate.Template,
	assigned, advertised []netip.Prefix,
) (tunnel, int, error) {
	request, err := connectip.ParseRequest(r, template)
	if err != nil {
		var parseError *connectip.RequestParseError
		if errors.As(err, &parseError) {
			return nil, parseError.HTTPStatus, err
		}
		return nil, http.StatusInternalServerError, err
	}
	conn, err := (&connectip.Proxy{}).Proxy(w, request)
	if err != nil {
		return nil, 0, err
	}
	routes := make([]connectip.IPRoute, 0, len(advertised))
	for _, prefix := range advertised {
		routes = append(routes, connectip.IPRoute{StartIP: prefix.Addr(), EndIP: lastOf(prefix)})
	}
	if err := errors.Join(conn.AssignAddresses(ctx, assigned), conn.AdvertiseRoute(ctx, routes)); err != nil {
		conn.Close()
		return nil, 0, err
	}
	return conn, 0, nil
}
