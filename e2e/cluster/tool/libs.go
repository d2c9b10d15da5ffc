// Finds the shared libraries that an ELF file needs.

package main

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// libraryDirs are where the loader looks, Debian's folder of this architecture first.
var libraryDirs = []string{"/lib/" + triple(), "/usr/lib/" + triple(), "/lib64", "/usr/lib64", "/usr/local/lib", "/lib", "/usr/lib"}

func triple() string {
	machines := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	return machines[runtime.GOARCH] + "-linux-gnu"
}

// libraries returns SOURCE=TARGET for the interpreter and every shared library that the ELF files among files need. They are looked
// for on this machine, then below $TOOL_ROOT, where packages are unpacked; in the image they are where the loader looks.
func libraries(files []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	var visit func(path string) error
	add := func(root, path, by string) error {
		if seen[path] {
			return nil
		}
		seen[path] = true
		if _, err := os.Stat(root + path); err != nil {
			return fmt.Errorf("%s: wanted by %s: %w", root+path, by, err)
		}
		out = append(out, root+path+"="+path)
		return visit(root + path)
	}
	roots := []string{""}
	if root := os.Getenv("TOOL_ROOT"); root != "" {
		roots = append(roots, root)
	}
	visit = func(path string) error {
		f, err := elf.Open(path)
		if err != nil {
			return nil // not an ELF file
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				raw := make([]byte, p.Filesz)
				if _, err := p.ReadAt(raw, 0); err != nil {
					return err
				}
				if err := add("", strings.TrimRight(string(raw), "\x00"), path); err != nil {
					return err
				}
			}
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return err
		}
	next:
		for _, n := range needed {
			for _, root := range roots {
				for _, d := range libraryDirs {
					if candidate := filepath.Join(d, n); exists(root + candidate) {
						if err := add(root, candidate, path); err != nil {
							return err
						}
						continue next
					}
				}
			}
			return fmt.Errorf("%s needs %s, which is in none of %v", path, n, libraryDirs)
		}
		return nil
	}
	for _, f := range files {
		source, _, _ := strings.Cut(f, "=")
		if err := visit(source); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
