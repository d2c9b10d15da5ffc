// The number of the system call setns on amd64, which the standard library does not name.

package main

const sysSetns = 308
