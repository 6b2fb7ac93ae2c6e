package authn

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"strings"
)

// leaked are passwords that were stolen elsewhere and that guessable takes for good: a Bloom filter over those of SecLists'
// "Common-Credentials" (docs/passwords.md says how it was made). About one in 230 good passwords that nobody has stolen is refused with them.
//
//go:embed leaked.bloom
var leaked bloom

// bloom is a set of texts without the texts. Capitals do not matter.
type bloom string

// bloomHashes is how many bits each text sets.
const bloomHashes = 9

// bits are those of a text in a set of size bits: two halves of its hash, combined (Kirsch and Mitzenmacher).
func bits(text string, size uint64) (all [bloomHashes]uint64) {
	sum := sha256.Sum256([]byte(strings.ToLower(text)))
	a, b := binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])|1
	for i := range all {
		all[i] = (a + uint64(i)*b) % size
	}
	return all
}

// has tells whether a text is in the set, or looks as if it were.
func (f bloom) has(text string) bool {
	for _, bit := range bits(text, uint64(len(f))*8) {
		if f[bit/8]&(1<<(bit%8)) == 0 {
			return false
		}
	}
	return true
}
