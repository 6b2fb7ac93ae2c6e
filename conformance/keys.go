package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const minRSABits = 2048 // FAPI 2.0 §5.4.1

// newKey makes a key for an algorithm.
func newKey(alg jose.SignatureAlgorithm) (crypto.Signer, error) {
	if alg == jose.ES256 {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, minRSABits)
}

// keptKey reads the key in a file, or makes it. What is there already stays: the suite's configurations hold it.
func keptKey(file string, alg jose.SignatureAlgorithm) (crypto.Signer, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := newKey(alg)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, write(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: %T cannot sign", file, key)
	}
	return signer, nil
}

// keptMasterKey makes the server's master key if there is none, and returns its file.
func keptMasterKey(dir string) (string, error) {
	file := filepath.Join(dir, "master.key")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	key := make([]byte, 32)
	rand.Read(key)
	return file, write(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"))
}

// keptSecret makes a secret if the file holds none.
func keptSecret(file string) (string, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		content = []byte(rand.Text() + rand.Text() + "\n")
		err = write(file, content)
	}
	return strings.TrimSpace(string(content)), err
}

// write writes a file that only we may read: most hold keys.
func write(file string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}
