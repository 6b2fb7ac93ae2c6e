//go:build !windows

package privatepg

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ulikunitz/xz"
)

// entry is one member of a test archive.
type entry struct {
	name    string
	kind    byte
	content string // of a file, or where a link points
}

func pack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o755}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.content))
		} else {
			h.Linkname = e.content
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			w.Write([]byte(e.content))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packJar(t *testing.T, tree []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	f, err := z.Create("postgres-test.txz")
	if err != nil {
		t.Fatal(err)
	}
	x, err := xz.NewWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	x.Write(tree)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestUnpack_StaysInside(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]entry{
		"parent folder":           {{"../evil", tar.TypeReg, "x"}},
		"parent folder, hidden":   {{"lib/../../evil", tar.TypeReg, "x"}},
		"absolute name":           {{"/evil", tar.TypeReg, "x"}},
		"folder outside":          {{"../evil", tar.TypeDir, ""}},
		"absolute link":           {{"lib", tar.TypeSymlink, "/etc"}},
		"link to the outside":     {{"lib/a", tar.TypeSymlink, "../../evil"}},
		"link through a link":     {{"p/s", tar.TypeSymlink, "."}, {"p/t", tar.TypeSymlink, "s/../x"}},
		"hard link":               {{"a", tar.TypeLink, "/etc/passwd"}},
		"device":                  {{"a", tar.TypeChar, ""}},
		"the same file twice":     {{"a", tar.TypeReg, "x"}, {"a", tar.TypeReg, "y"}},
		"a file through its link": {{"a", tar.TypeSymlink, "b"}, {"a", tar.TypeReg, "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outer := t.TempDir()
			err := unpackTar(bytes.NewReader(pack(t, entries...)), filepath.Join(outer, "in"))
			if err == nil {
				t.Error("accepted")
			}
			if left, _ := filepath.Glob(filepath.Join(outer, "*")); len(left) != 1 {
				t.Errorf("beside the folder there is now %v", left)
			}
		})
	}
}

// Even where a link exists that leads out, nothing is written through it.
func TestUnpack_NeverFollowsALinkOut(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	in := filepath.Join(outer, "in")
	if err := os.MkdirAll(in, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outer, filepath.Join(in, "out")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(in)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	h := &tar.Header{Name: "out/evil", Typeflag: tar.TypeReg}
	if err := unpackEntry(root, h, strings.NewReader("x")); err == nil {
		t.Error("written through a link")
	}
}

func TestUnpack_KeepsWhatIsRight(t *testing.T) {
	t.Parallel()
	in := filepath.Join(t.TempDir(), "in")
	err := unpackTar(bytes.NewReader(pack(t,
		entry{"lib/libpq.so", tar.TypeSymlink, "libpq.so.5.17"},
		entry{"./bin/postgres", tar.TypeReg, "#!/bin/sh\n"},
		entry{"share/", tar.TypeDir, ""},
	)), in)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(in, "bin", "postgres")); err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("bin/postgres: %v, %v; want an executable", info, err)
	}
	if to, err := os.Readlink(filepath.Join(in, "lib", "libpq.so")); err != nil || to != "libpq.so.5.17" {
		t.Errorf("lib/libpq.so points to %q, %v", to, err)
	}
}

func TestMaven_FetchesOnceAndChecks(t *testing.T) {
	t.Parallel()
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) 17.11'\n"
	packed := packJar(t, pack(t, entry{"bin/postgres", tar.TypeReg, script}, entry{"bin/initdb", tar.TypeReg, script}))
	sum := sha256.Sum256(packed)
	asked := 0
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if want := "/m2/io/zonky/test/postgres/embedded-postgres-binaries-here/17.11.0/embedded-postgres-binaries-here-17.11.0.jar"; r.URL.Path != want {
			t.Errorf("asked for %s, want %s", r.URL.Path, want)
		}
		w.Write(packed)
	}))
	defer repository.Close()
	o := Options{MavenRepository: repository.URL + "/m2/", Logf: t.Logf}
	cache := openDir(t)

	wrong := jar{"here", strings.Repeat("0", 64)}
	if _, err := cachedBinaries(t.Context(), o, nil, "17.11.0", wrong, cache); err == nil || !strings.Contains(err.Error(), "not the file we know") {
		t.Errorf("a file with another checksum: %v", err)
	}
	right := jar{"here", hex.EncodeToString(sum[:])}
	for range 2 {
		b, err := cachedBinaries(t.Context(), o, nil, "17.11.0", right, cache)
		if err != nil {
			t.Fatal(err)
		}
		if b.major != 17 {
			t.Errorf("major = %d", b.major)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2: the refused one, and the good one once", asked)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*")); len(left) != 1 {
		t.Errorf("the cache holds %v, want the binaries only", left)
	}
}

func TestMaven_Central(t *testing.T) {
	t.Parallel()
	if os.Getenv("COUNTERSIGN_TEST_MAVEN") != "1" {
		t.Skip("fetches PostgreSQL from Maven Central; set COUNTERSIGN_TEST_MAVEN=1 to try")
	}
	o := Options{Logf: t.Logf}
	j, ok := newestRelease.jars[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		t.Skip("there are no binaries for this platform")
	}
	as := mustAccount(t, "")
	began := time.Now()
	b, err := cachedBinaries(t.Context(), o, as, newestRelease.version, j, openDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("fetched and unpacked in %s", time.Since(began))
	began = time.Now()
	s, err := start(t.Context(), o, as, b, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	t.Logf("started in %s", time.Since(began))
	t.Log(query(t, s, "SELECT version()"))
}

// Each pinned file is what Central has, so that the other platforms work too.
func TestMaven_PinsAreCurrent(t *testing.T) {
	t.Parallel()
	if os.Getenv("COUNTERSIGN_TEST_MAVEN") != "1" {
		t.Skip("fetches PostgreSQL from Maven Central; set COUNTERSIGN_TEST_MAVEN=1 to try")
	}
	for platform, j := range newestRelease.jars {
		dir := t.TempDir()
		file := filepath.Join(dir, "jar")
		if err := fetch(t.Context(), jarURL("", newestRelease.version, j.platform), j.sha256, file, t.Logf); err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		if err := unpackJar(file, filepath.Join(dir, "unpacked")); err != nil {
			t.Errorf("%s: %v", platform, err)
		}
	}
}
