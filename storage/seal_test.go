package storage

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The vectors of c2sp.org/XAES-256-GCM.
func TestXAES256GCM(t *testing.T) {
	for _, v := range []struct {
		key       byte
		data, out string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, err := newXAES(bytes.Repeat([]byte{v.key}, 32))
		if err != nil {
			t.Fatal(err)
		}
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		got := x.seal(nil, nonce, []byte("XAES-256-GCM"), []byte(v.data))
		if hex.EncodeToString(got) != v.out {
			t.Errorf("sealed %x, want %s", got, v.out)
		}
		back, err := x.open(nonce, got, []byte(v.data))
		if err != nil || string(back) != "XAES-256-GCM" {
			t.Errorf("opened %q, %v", back, err)
		}
	}
}
