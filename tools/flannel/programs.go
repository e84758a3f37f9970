//go:build programs

// Package programs names what is built of Flannel, so that `go mod tidy` knows what it takes.
package programs

import _ "github.com/containernetworking/plugins/plugins/meta/flannel"
