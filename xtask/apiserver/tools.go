// Package tools names the programs that are built from other modules, so that `go mod tidy` keeps what they need.
package tools

import (
	_ "k8s.io/kubectl/pkg/cmd"
	_ "k8s.io/kubernetes/cmd/kube-apiserver/app"
)
