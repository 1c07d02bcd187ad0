// An OCI registry in memory that lists referrers itself: go-containerregistry's, with an option that `crane registry
// serve` does not have. It listens on a port of 127.0.0.1 that the system chooses, and writes it to standard error as
// `crane registry serve` does.
package main

import (
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatalln(err)
	}
	log.Printf("serving on port %d", listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler:           registry.New(registry.WithReferrersSupport(true)),
	}
	log.Fatalln(server.Serve(listener))
}
