// The cluster's helpers: the standard library only.
module ja4-platform/e2e/cluster/tool

go 1.26.0
