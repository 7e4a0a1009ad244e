package main

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	connectip "github.com/quic-go/connect-ip-go"
	"github.com/yosida95/uritemplate/v3"
)

// accept opens a tunnel for a request, or says why not and with which status.
func accept(
	ctx context.Context,
	w http.ResponseWriter,
	r *http.Request,
	template *uritemplate.Template,
	assigned, advertised []netip.Prefix,
) (tunnel, int, error) {
	request, err := parseRequest(r, template)
	if err != nil {
		var refused *parseError
		if errors.As(err, &refused) {
			return nil, refused.HTTPStatus, err
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
	if err := errors.Join(assign(ctx, conn, assigned), advertise(ctx, conn, routes)); err != nil {
		conn.Close()
		return nil, 0, err
	}
	return conn, 0, nil
}
