package privatepg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const mavenCentral = "https://repo1.maven.org/maven2"

// release is a version of the binaries that the Zonky project publishes on Maven Central, by GOOS/GOARCH.
type release struct {
	version string
	jars    map[string]jar
}

type jar struct{ platform, sha256 string }

// newestRelease is what we fetch. The sums were computed over the files of Maven Central and agree with the .sha256 files
// beside them; a new version needs new ones.
var newestRelease = release{
	version: "17.11.0",
	jars: map[string]jar{
		"linux/amd64":   {"linux-amd64", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d"},
		"linux/arm64":   {"linux-arm64v8", "8b042e0ea418b1927d95399207950da0734d27fe01e29503ade3bdc464ad4c2b"},
		"darwin/amd64":  {"darwin-amd64", "d464ff178e9860ba204662ac23fa547504b7fd392392ff2fb92e3fd73b5bdb64"},
		"darwin/arm64":  {"darwin-arm64v8", "a1c2786acb0c398f9b2d76806fc52f5dc8b222cbc8e9383a9b9702084daaf3a5"},
		"windows/amd64": {"windows-amd64", "98040fae18dd9633ff95932125b0cecf0a45a1a9312e216e2a33ad03a31d4251"},
	},
}

func (r release) major() int { return versionIn(r.version) }

// mavenBinaries returns the binaries of a release from the cache, after fetching them once.
func mavenBinaries(ctx context.Context, o Options, as *account, r release) (binaries, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	j, ok := r.jars[platform]
	if !ok {
		return binaries{}, fmt.Errorf("there are no binaries of PostgreSQL %s for %s", r.version, platform)
	}
	cache, err := makeCacheDir(as)
	if err != nil {
		return binaries{}, err
	}
	return cachedBinaries(ctx, o, as, r.version, j, cache)
}

func cachedBinaries(ctx context.Context, o Options, as *account, version string, j jar, cache string) (binaries, error) {
	home := filepath.Join(cache, version+"-"+j.platform)
	b, err := binariesIn(ctx, filepath.Join(home, "bin"), as)
	if !errors.Is(err, errAbsent) {
		return b, explain(err)
	}

	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return binaries{}, err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "postgres.jar")
	if err := fetch(ctx, jarURL(o.MavenRepository, version, j.platform), j.sha256, file, o.Logf); err != nil {
		return binaries{}, err
	}
	unpacked := filepath.Join(work, "unpacked")
	if err := unpackJar(file, unpacked); err != nil {
		return binaries{}, err
	}
	// Another process may have been faster; what it put there is the same.
	if err := os.Rename(unpacked, home); err != nil {
		if _, there := os.Stat(filepath.Join(home, "bin")); there != nil {
			return binaries{}, err
		}
	}
	b, err = binariesIn(ctx, filepath.Join(home, "bin"), as)
	return b, explain(err)
}

// explain adds the reason when a program that is there "does not exist": its loader does not.
func explain(err error) error {
	if errors.Is(err, os.ErrNotExist) && runtime.GOOS == "linux" {
		return fmt.Errorf("%w (these binaries need the GNU C library, which Alpine does not have)", err)
	}
	return err
}

// makeCacheDir makes the folder for fetched binaries: in the user's cache, or for root, whose home is closed to the account
// that must run them, in the machine's.
func makeCacheDir(as *account) (string, error) {
	var roots []string
	user, err := os.UserCacheDir()
	if err == nil {
		roots = append(roots, user)
	}
	if as != nil {
		roots = append(roots, "/var/cache")
	}
	for _, root := range roots {
		dir := filepath.Join(root, "countersign", "postgres")
		if err = as.makePath(dir); err != nil {
			continue
		}
		if err = as.canEnter(dir); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no folder to keep the binaries in: %w", err)
}

func jarURL(repository, version, platform string) string {
	if repository == "" {
		repository = mavenCentral
	}
	artifact := "embedded-postgres-binaries-" + platform
	return fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%[2]s-%[3]s.jar", strings.TrimSuffix(repository, "/"), artifact, version)
}

// largestJar bounds what we accept; the largest one today has 62 MB.
const largestJar = 200 << 20

// fetch downloads a file and refuses one whose SHA-256 is not the pinned one.
func fetch(ctx context.Context, url, sum, file string, logf func(string, ...any)) error {
	logf("no PostgreSQL on this system: fetching %s", url)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, hash), io.LimitReader(res.Body, largestJar+1))
	if err != nil {
		return fmt.Errorf("fetching %s: %w", url, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("%s is not the file we know: its SHA-256 is %s, not %s; it is not used", url, got, sum)
	}
	logf("fetched %d MB in %s", n>>20, time.Since(began).Round(10*time.Millisecond))
	return out.Close()
}
