// Listeners, clients and a forwarder into a network namespace.

package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func arch() string { return runtime.GOARCH }

func init() {
	commands["forward"] = forward
	commands["freeport"] = func([]string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
		return nil
	}
	commands["wait"] = wait
	commands["pause"] = func([]string) error { await(); return nil }
	commands["sleep"] = func(a []string) error {
		d, err := time.ParseDuration(a[0])
		time.Sleep(d)
		return err
	}
	commands["echo"] = func(a []string) error { fmt.Println(strings.Join(a, " ")); return nil }
	commands["httpd"] = httpd
	commands["get"] = get
	commands["lookup"] = func(a []string) error {
		r := &net.Resolver{PreferGo: true}
		ips, err := r.LookupHost(context.Background(), a[0])
		fmt.Println(ips)
		return err
	}
	commands["netraw"] = netraw
}

func await() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
}

// forward listens here and dials inside the network namespace of a process: forward 127.0.0.1:6443 PID 127.0.0.1:6443
func forward(a []string) error {
	if len(a) != 3 {
		return fmt.Errorf("want LISTEN PID TARGET")
	}
	l, err := net.Listen("tcp", a[0])
	if err != nil {
		return err
	}
	ns, err := os.Open("/proc/" + a[1] + "/ns/net")
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			type result struct {
				c   net.Conn
				err error
			}
			dialed := make(chan result, 1)
			go func() {
				runtime.LockOSThread() // never unlocked: the thread dies with its namespace
				if _, _, e := syscall.RawSyscall(sysSetns, ns.Fd(), syscall.CLONE_NEWNET, 0); e != 0 {
					dialed <- result{nil, e}
					return
				}
				d := net.Dialer{Timeout: 5 * time.Second, FallbackDelay: -1}
				o, err := d.Dial("tcp", a[2])
				dialed <- result{o, err}
			}()
			r := <-dialed
			if r.err != nil {
				fmt.Fprintln(os.Stderr, "forward:", r.err)
				return
			}
			defer r.c.Close()
			done := make(chan struct{}, 2)
			pipe := func(to, from net.Conn) {
				io.Copy(to, from)
				if t, ok := to.(*net.TCPConn); ok {
					t.CloseWrite()
				}
				done <- struct{}{}
			}
			go pipe(r.c, c)
			go pipe(c, r.c)
			<-done
			<-done
		}()
	}
}

// wait polls a URL until it answers 200.
func wait(args []string) error {
	fs := flag.NewFlagSet("wait", flag.ContinueOnError)
	limit := fs.Duration("timeout", 60*time.Second, "give up after")
	crt := fs.String("cert", "", "client certificate")
	key := fs.String("key", "", "client key")
	pid := fs.Int("pid", 0, "fail at once when this process is gone")
	if err := fs.Parse(args); err != nil {
		return err
	}
	conf := &tls.Config{InsecureSkipVerify: true} // readiness only, nothing is trusted from the answer
	if *crt != "" {
		c, err := tls.LoadX509KeyPair(*crt, *key)
		if err != nil {
			return err
		}
		conf.Certificates = []tls.Certificate{c}
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}
	deadline := time.Now().Add(*limit)
	var last string
	for time.Now().Before(deadline) {
		r, err := client.Get(fs.Arg(0))
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode == 200 {
				return nil
			}
			last = r.Status + " " + string(body)
		} else {
			last = err.Error()
		}
		if *pid != 0 && syscall.Kill(*pid, 0) == syscall.ESRCH {
			return fmt.Errorf("process %d died; last answer: %s", *pid, last)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("timed out: %s", last)
}

func httpd(a []string) error {
	host, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.RemoteAddr, r.URL.Path)
		fmt.Fprintln(w, "ok", host)
	})
	go func() {
		if err := http.ListenAndServe(a[0], nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
	fmt.Println("listening on", a[0], "uid", os.Getuid())
	await()
	return nil
}

func get(a []string) error {
	n := 1
	if len(a) > 1 {
		n, _ = strconv.Atoi(a[1])
	}
	var err error
	for i := 0; i < n; i++ {
		var r *http.Response
		c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{}}
		if r, err = c.Get(a[0]); err == nil {
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			fmt.Print(r.StatusCode, " ", string(b))
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// netraw opens a packet socket, prints interfaces and the effective capabilities, and stays if told to.
func netraw(a []string) error {
	status, _ := os.ReadFile("/proc/self/status")
	for _, l := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(l, "CapEff") || strings.HasPrefix(l, "NoNewPrivs") || strings.HasPrefix(l, "Seccomp:") {
			fmt.Println(l)
		}
	}
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		fmt.Print(i.Name, " ")
	}
	fmt.Println()
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300)
	fmt.Println("packet socket:", fd, err)
	if err != nil {
		return err
	}
	if len(a) > 0 {
		go func() {
			buf := make([]byte, 65536)
			n := 0
			for {
				if _, _, err := syscall.Recvfrom(fd, buf, 0); err == nil {
					if n++; n%100 == 1 {
						fmt.Println("packets", n)
					}
				}
			}
		}()
		await()
	}
	return nil
}
