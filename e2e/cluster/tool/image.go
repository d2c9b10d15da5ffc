// Writes image archives: one uncompressed layer with the files and their shared libraries.

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

func init() { commands["image"] = image }

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// image writes an OCI image layout tar (one uncompressed layer) that `ctr images import` takes.
func image(args []string) error {
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	out := fs.String("o", "", "archive to write")
	ref := fs.String("t", "", "image reference, such as localhost/app:1")
	user := fs.String("user", "", "USER of the image (uid[:gid])")
	var files, caps, entry, cmd, env list
	fs.Var(&files, "file", "SOURCE=TARGET; repeatable; mode bits are kept")
	fs.Var(&caps, "cap-net-raw", "TARGET that gets the file capability cap_net_raw+ep; repeatable")
	fs.Var(&entry, "entrypoint", "word of the entrypoint; repeatable")
	fs.Var(&cmd, "cmd", "word of the default arguments; repeatable")
	fs.Var(&env, "env", "NAME=value; repeatable")
	libs := fs.Bool("libs", true, "add the shared libraries that the files need")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *libs {
		more, err := libraries(files)
		if err != nil {
			return err
		}
		files = append(files, more...)
	}
	layer, err := makeLayer(files, caps)
	if err != nil {
		return err
	}
	epoch := time.Unix(0, 0).UTC().Format(time.RFC3339)
	config, err := json.Marshal(map[string]any{
		"architecture": arch(), "os": "linux", "created": epoch,
		"config": map[string]any{"Entrypoint": entry, "Cmd": cmd, "User": *user,
			"Env": append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, env...)},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor("application/vnd.oci.image.config.v1+json", config, nil),
		"layers": []any{descriptor("application/vnd.oci.image.layer.v1.tar", layer, nil)},
	})
	if err != nil {
		return err
	}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
		"manifests": []any{descriptor("application/vnd.oci.image.manifest.v1+json", manifest,
			map[string]string{"io.containerd.image.name": *ref, "org.opencontainers.image.ref.name": *ref})},
	})
	if err != nil {
		return err
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	put := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	for _, part := range []struct {
		name string
		data []byte
	}{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index},
		{blob(manifest), manifest}, {blob(config), config}, {blob(layer), layer}} {
		if err := put(part.name, part.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func makeLayer(files, caps []string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	dirs := map[string]bool{}
	for _, d := range []string{"tmp", "etc", "proc", "sys", "dev", "run"} {
		dirs[d] = true
	}
	for _, f := range files {
		_, target, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("bad -file %q", f)
		}
		for d := path.Dir(strings.TrimPrefix(target, "/")); d != "." && d != "/"; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	names := make([]string, 0, len(dirs))
	for d := range dirs {
		names = append(names, d)
	}
	sort.Strings(names)
	for _, d := range names {
		mode := int64(0o755)
		if d == "tmp" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
	}
	passwd := "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	if err := addFile(w, "etc/passwd", 0o644, int64(len(passwd)), strings.NewReader(passwd), false); err != nil {
		return nil, err
	}
	for _, f := range files {
		source, target, _ := strings.Cut(f, "=")
		real, err := filepath.EvalSymlinks(source)
		if err != nil {
			return nil, err
		}
		in, err := os.Open(real)
		if err != nil {
			return nil, err
		}
		st, err := in.Stat()
		if err != nil {
			return nil, err
		}
		netraw := false
		for _, c := range caps {
			netraw = netraw || c == target
		}
		err = addFile(w, strings.TrimPrefix(target, "/"), int64(st.Mode().Perm()|0o444), st.Size(), in, netraw)
		in.Close()
		if err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

// capNetRaw is a version 2 security.capability value with permitted = CAP_NET_RAW (bit 13) and the effective flag.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func addFile(w *tar.Writer, name string, mode, size int64, data io.Reader, netraw bool) error {
	h := &tar.Header{Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0)}
	if netraw {
		h.Format = tar.FormatPAX
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capNetRaw}
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w, data)
	return err
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func blob(b []byte) string { return "blobs/sha256/" + strings.TrimPrefix(digest(b), "sha256:") }

func descriptor(media string, b []byte, annotations map[string]string) map[string]any {
	d := map[string]any{"mediaType": media, "digest": digest(b), "size": len(b)}
	if annotations != nil {
		d["annotations"] = annotations
		d["platform"] = map[string]string{"architecture": arch(), "os": "linux"}
	}
	return d
}
