// CoreDNS with the plugins that a cluster without a way out needs: what its own build has besides is most of its weight.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
)

// In this order a question passes through them.
func init() {
	dnsserver.Directives = []string{"ready", "errors", "loadbalance", "kubernetes"}
}

func main() {
	coremain.Run()
}
