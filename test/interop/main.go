// Command interop is the other side of the interoperability tests: CONNECT-IP (RFC 9484) as connect-ip-go does it, on a TUN
// device. With the build tag v01 and -modfile=go.v0.1.mod it is connect-ip-go v0.1.0, otherwise the version that go.mod names.
//
// What happens is told on standard output, one JSON object a line.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var commands = map[string]func(ctx context.Context, args []string) error{
	"client":      runClient,
	"proxy":       runProxy,
	"fetch":       runFetch,
	"serve-http3": runServeHTTP3,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: interop client|proxy|fetch|serve-http3 [flags]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// report tells the test what happened.
func report(event map[string]any) {
	line, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}
