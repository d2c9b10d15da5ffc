// Makes the cluster's certificates and kubeconfigs.

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func init() { commands["pki"] = pki }

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// pki writes a CA, leaf certificates and kubeconfigs into a directory; what exists already is kept.
func pki(args []string) error {
	fs := flag.NewFlagSet("pki", flag.ContinueOnError)
	dir := fs.String("dir", "", "output directory")
	server := fs.String("server", "", "API server URL written into the kubeconfigs")
	nodeServer := fs.String("node-server", "", "API server URL as seen from the nodes")
	ips := fs.String("ips", "127.0.0.1", "comma separated addresses of the API server")
	nodes := fs.String("nodes", "", "comma separated name=ip of the nodes")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	ca, err := loadOrMakeCA(*dir)
	if err != nil {
		return err
	}
	leaf := func(name string, subject pkix.Name, sans ...string) error {
		return makeLeaf(*dir, name, ca, subject, sans)
	}
	apiSANs := append([]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "10.96.0.1"}, strings.Split(*ips, ",")...)
	if err := leaf("apiserver", pkix.Name{CommonName: "kube-apiserver"}, apiSANs...); err != nil {
		return err
	}
	clients := []struct{ name, cn, org, url string }{
		{"admin", "kubernetes-admin", "system:masters", *server},
		{"apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters", ""},
		{"front-proxy", "front-proxy", "", ""},
		{"controller-manager", "system:kube-controller-manager", "", *server},
		{"scheduler", "system:kube-scheduler", "", *server},
		{"coredns", "coredns", "", *server},
	}
	for _, c := range clients {
		subject := pkix.Name{CommonName: c.cn}
		if c.org != "" {
			subject.Organization = []string{c.org}
		}
		if err := leaf(c.name, subject); err != nil {
			return err
		}
		if c.url != "" {
			if err := kubeconfig(*dir, c.name, c.url, ca.pem); err != nil {
				return err
			}
		}
	}
	for _, n := range strings.FieldsFunc(*nodes, func(r rune) bool { return r == ',' }) {
		name, ip, ok := strings.Cut(n, "=")
		if !ok {
			return fmt.Errorf("bad node %q", n)
		}
		subject := pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}
		if err := leaf("kubelet-"+name, subject, name, "127.0.0.1", ip); err != nil {
			return err
		}
		if err := kubeconfig(*dir, "kubelet-"+name, *nodeServer, ca.pem); err != nil {
			return err
		}
		if err := leaf("kube-proxy", pkix.Name{CommonName: "system:kube-proxy"}); err != nil {
			return err
		}
		if err := kubeconfig(*dir, "kube-proxy", *nodeServer, ca.pem); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(*dir, "sa.key")); err == nil {
		return nil
	}
	sa, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&sa.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(*dir, "sa.pub"), "PUBLIC KEY", der); err != nil {
		return err
	}
	return writePEM(filepath.Join(*dir, "sa.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(sa))
}

func loadOrMakeCA(dir string) (*authority, error) {
	crt, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	if raw, err := os.ReadFile(crt); err == nil {
		block, _ := pem.Decode(raw)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		rawKey, err := os.ReadFile(key)
		if err != nil {
			return nil, err
		}
		block, _ = pem.Decode(rawKey)
		k, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return &authority{cert, k, raw}, nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(pkix.Name{CommonName: "e2e-ca"})
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, err
	}
	if err := writePEM(key, "EC PRIVATE KEY", keyDER); err != nil {
		return nil, err
	}
	if err := writePEM(crt, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return &authority{cert, k, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func template(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{SerialNumber: serial, Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 30)}
}

func makeLeaf(dir, name string, ca *authority, subject pkix.Name, sans []string) error {
	crt := filepath.Join(dir, name+".crt")
	if _, err := os.Stat(crt); err == nil {
		return nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := template(subject)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, s := range sans {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if ip := net.ParseIP(s); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, s)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, k.Public(), ca.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".key"), "EC PRIVATE KEY", keyDER); err != nil {
		return err
	}
	return writePEM(crt, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func kubeconfig(dir, name, server string, ca []byte) error {
	crt, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(dir, name+".key"))
	if err != nil {
		return err
	}
	b := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: e2e
contexts: [{name: e2e, context: {cluster: e2e, user: %[1]s}}]
clusters: [{name: e2e, cluster: {server: "%[2]s", certificate-authority-data: %[3]s}}]
users: [{name: %[1]s, user: {client-certificate-data: %[4]s, client-key-data: %[5]s}}]
`, name, server, b(ca), b(crt), b(key))
	return os.WriteFile(filepath.Join(dir, name+".kubeconfig"), []byte(text), 0o600)
}
