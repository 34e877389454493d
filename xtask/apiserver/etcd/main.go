// Command etcd is the store of the API server: the program's own module cannot be built by its name here.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
