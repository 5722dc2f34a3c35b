module github.com/splitmesh/splitmesh/examples

go 1.26.0

require github.com/splitmesh/splitmesh v0.0.0

replace github.com/splitmesh/splitmesh => ../
