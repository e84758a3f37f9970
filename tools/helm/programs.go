//go:build programs

// Package programs names what is built of Helm, so that `go mod tidy` knows what it takes.
package programs

import _ "helm.sh/helm/v3/cmd/helm"
