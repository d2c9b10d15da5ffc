// Helpers that run in pods: a call of the API with the pod's own token, a memory hog.

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// api calls the API server the way an in-cluster client does: api /version
func init() {
	commands["api"] = func(a []string) error {
		const dir = "/var/run/secrets/kubernetes.io/serviceaccount/"
		token, err := os.ReadFile(dir + "token")
		if err != nil {
			return err
		}
		ca, err := os.ReadFile(dir + "ca.crt")
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
		if len(a) > 1 {
			host = a[1]
		}
		req, err := http.NewRequest("GET", "https://"+host+a[0], nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
		c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
		r, err := c.Do(req)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(r.Body, 400))
		fmt.Println(r.Status, string(body))
		return nil
	}
	commands["hog"] = func(a []string) error { // allocates until killed
		var keep [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			keep = append(keep, b)
			fmt.Println(len(keep), "MiB")
			time.Sleep(5 * time.Millisecond)
		}
	}
}
