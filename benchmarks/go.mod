module github.com/splitmesh/splitmesh/benchmarks

go 1.26.0

require (
	github.com/splitmesh/splitmesh v0.0.0
	go.uber.org/goleak v1.3.0
)

require (
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/splitmesh/splitmesh => ../
