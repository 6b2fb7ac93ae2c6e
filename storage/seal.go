package storage

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Keyring seals and opens. A data key is 32 random bytes, stored wrapped by the master key; the newest seals, all open.
type Keyring struct {
	newest uint16
	keys   map[uint16]*xaes
	raw    map[uint16][]byte
}

// ErrUnsealed is returned for bytes that were not sealed by this server for this purpose and row.
var ErrUnsealed = errors.New("storage: not sealed by this server for this place")

const (
	sealVersion = 1
	sealHeader  = 3 // version, key id
)

// Seal encrypts plaintext. It opens again only for the same purpose ("customers.profile") and row.
func (k *Keyring) Seal(purpose string, row, plaintext []byte) []byte {
	sealed := make([]byte, sealHeader+xaesNonce, sealHeader+xaesNonce+len(plaintext)+16)
	sealed[0] = sealVersion
	binary.BigEndian.PutUint16(sealed[1:], k.newest)
	nonce := sealed[sealHeader:]
	rand.Read(nonce)
	return k.keys[k.newest].seal(sealed, nonce, plaintext, place(purpose, row))
}

// Open decrypts what Seal made, or returns ErrUnsealed.
func (k *Keyring) Open(purpose string, row, sealed []byte) ([]byte, error) {
	if len(sealed) < sealHeader+xaesNonce+16 || sealed[0] != sealVersion {
		return nil, ErrUnsealed
	}
	key, ok := k.keys[binary.BigEndian.Uint16(sealed[1:])]
	if !ok {
		return nil, ErrUnsealed
	}
	nonce, ciphertext := sealed[sealHeader:sealHeader+xaesNonce], sealed[sealHeader+xaesNonce:]
	plaintext, err := key.open(nonce, ciphertext, place(purpose, row))
	if err != nil {
		return nil, ErrUnsealed
	}
	return plaintext, nil
}

// Index returns a keyed hash by which a sealed value can be found. It does not change when data keys rotate.
func (k *Keyring) Index(purpose string, value []byte) []byte {
	mac := hmac.New(sha256.New, k.Derive("index "+purpose))
	mac.Write(value)
	return mac.Sum(nil)
}

// Derive returns 32 bytes that all replicas share, for one purpose; they do not change when data keys rotate.
func (k *Keyring) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, k.raw[firstDataKey], nil, "countersign "+purpose, 32)
	if err != nil {
		panic(err) // only for lengths that SHA-256 cannot give
	}
	return key
}

func place(purpose string, row []byte) []byte {
	b := make([]byte, 0, len(purpose)+1+len(row))
	b = append(b, purpose...)
	b = append(b, 0)
	return append(b, row...)
}

const (
	firstDataKey = 1

	dataKeysSQL    = `SELECT id, wrapped FROM data_keys ORDER BY id`
	addDataKeySQL  = `INSERT INTO data_keys (id, wrapped) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`
	dataKeyPurpose = "data_keys.wrapped"
)

// loadDataKeys reads the data keys; a database that has none gets its first. Two round trips at most three.
func (db *DB) loadDataKeys(ctx context.Context) error {
	master, err := newXAES(db.masterKey)
	if err != nil {
		return fmt.Errorf("storage: master key: %w", err)
	}
	for range 2 {
		ring, err := db.readDataKeys(ctx, master)
		if err != nil {
			return err
		}
		if ring.newest > 0 {
			db.keys.Store(ring)
			return nil
		}
		if err := db.addDataKey(ctx, master, firstDataKey); err != nil {
			return err
		}
	}
	return errors.New("storage: no data key after one was made")
}

// RotateDataKey makes a new data key, which seals from now on; the others still open. It returns its id.
func (db *DB) RotateDataKey(ctx context.Context) (uint16, error) {
	master, err := newXAES(db.masterKey)
	if err != nil {
		return 0, err
	}
	id := db.Keys().newest + 1
	if err := db.addDataKey(ctx, master, id); err != nil {
		return 0, err
	}
	return id, db.loadDataKeys(ctx)
}

func (db *DB) readDataKeys(ctx context.Context, master *xaes) (*Keyring, error) {
	rows, err := db.pool.Query(ctx, dataKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("storage: data keys: %w", err)
	}
	defer rows.Close()
	ring := &Keyring{keys: map[uint16]*xaes{}, raw: map[uint16][]byte{}}
	for rows.Next() {
		var id int16
		var wrapped []byte
		if err := rows.Scan(&id, &wrapped); err != nil {
			return nil, err
		}
		if len(wrapped) < xaesNonce {
			return nil, ErrUnsealed
		}
		raw, err := master.open(wrapped[:xaesNonce], wrapped[xaesNonce:], place(dataKeyPurpose, []byte{byte(id >> 8), byte(id)}))
		if err != nil {
			return nil, errors.New("storage: the master key does not open this database's data keys: it is not the key that they were made with")
		}
		key, err := newXAES(raw)
		if err != nil {
			return nil, err
		}
		ring.keys[uint16(id)], ring.raw[uint16(id)], ring.newest = key, raw, uint16(id)
	}
	return ring, rows.Err()
}

func (db *DB) addDataKey(ctx context.Context, master *xaes, id uint16) error {
	raw := make([]byte, 32)
	rand.Read(raw)
	nonce := make([]byte, xaesNonce)
	rand.Read(nonce)
	wrapped := master.seal(nonce, nonce, raw, place(dataKeyPurpose, []byte{byte(id >> 8), byte(id)}))
	_, err := db.pool.Exec(ctx, addDataKeySQL, int16(id), wrapped)
	return err
}

// xaes is XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM with a 24-byte nonce, so that one key may seal billions of
// tokens with random nonces, which plain GCM must not.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte
}

const xaesNonce = 24

func newXAES(key []byte) (*xaes, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("%d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	msb := x.k1[0] >> 7
	for i := range x.k1 {
		x.k1[i] <<= 1
		if i+1 < len(x.k1) {
			x.k1[i] |= x.k1[i+1] >> 7
		}
	}
	x.k1[len(x.k1)-1] ^= msb * 0b10000111
	return x, nil
}

// aead derives the key of one message from the first half of its nonce.
func (x *xaes) aead(nonce []byte) cipher.AEAD {
	var key [32]byte
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:12])
		for j := range half {
			half[j] ^= x.k1[j]
		}
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the length is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (x *xaes) seal(dst, nonce, plaintext, data []byte) []byte {
	return x.aead(nonce).Seal(dst, nonce[12:], plaintext, data)
}

func (x *xaes) open(nonce, ciphertext, data []byte) ([]byte, error) {
	return x.aead(nonce).Open(nil, nonce[12:], ciphertext, data)
}
