package authz_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// mostPerWaiter is what a poll that waits may hold: goroutine, stream, its share of the connection, and ours.
const mostPerWaiter = 20 << 10

// Polls that wait hold little. Their clients are bare frames here, so that what is measured is the server.
func TestLongPoll_Memory(t *testing.T) {
	const connections, streams = 8, 200
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	listener := httptest.NewUnstartedServer(s.Public())
	listener.EnableHTTP2 = true
	listener.StartTLS()
	defer listener.Close()

	var all []*frames
	for range connections {
		all = append(all, dialFrames(t, listener))
	}
	all[0].poll(t, c, 1, "unknown") // what is made once
	time.Sleep(200 * time.Millisecond)
	before := memoryHeld()
	var wait sync.WaitGroup
	for _, f := range all {
		wait.Go(func() {
			for i := range streams {
				code := rand.Text()
				if err := s.DB.PushPolled(t.Context(), nil, &storage.Authorization{ID: storage.NewID(), ClientID: c.ID, Request: []byte(`{}`), Scopes: []string{}},
					storage.Polling{CodeHash: engine.CodeHash(code), Lifetime: time.Hour, Interval: 5 * time.Second}); err != nil {
					t.Error(err)
				}
				f.poll(t, c, uint32(2*i+3), code)
			}
		})
	}
	wait.Wait()
	isWaiting(t, s, connections*streams)
	var fresh runtime.MemStats
	runtime.ReadMemStats(&fresh)
	after := memoryHeld()
	per := int64(after.heap+after.stacks-before.heap-before.stacks) / (connections * streams)
	t.Logf("%d polls wait: %d bytes each (heap %d, stack %d; %d before a collection)", connections*streams, per,
		int64(after.heap-before.heap)/(connections*streams), int64(after.stacks-before.stacks)/(connections*streams),
		int64(fresh.StackInuse-before.stacks)/(connections*streams))
	if per > mostPerWaiter {
		t.Errorf("%d bytes for each poll that waits, more than %d", per, mostPerWaiter)
	}
	stopRunning(t, s)
	isWaiting(t, s, 0)
}

type held struct{ heap, stacks uint64 }

func memoryHeld() held {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{m.HeapAlloc, m.StackInuse}
}

// frames is an HTTP/2 connection without anything kept for its streams.
type frames struct {
	*http2.Framer
	host    string
	encoder *hpack.Encoder
	block   bytes.Buffer
}

func dialFrames(t *testing.T, s *httptest.Server) *frames {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) // our own, on this machine
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := &frames{Framer: http2.NewFramer(conn, conn), host: s.Listener.Addr().String()}
	f.encoder = hpack.NewEncoder(&f.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	}()
	return f
}

func (f *frames) poll(t *testing.T, c *authztest.Client, stream uint32, code string) {
	form := backchannelPoll(backchannelRequest{authReqID: code})
	r := postRequest(t, "https://"+f.host+"/token", form)
	r.SetBasicAuth(c.ID, c.Secret)
	f.block.Reset()
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", f.host}, {":path", "/token"},
		{"content-type", r.Header.Get("Content-Type")}, {"authorization", r.Header.Get("Authorization")}, {"prefer", "wait=30"}} {
		f.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block.Bytes(), EndHeaders: true}); err != nil {
		t.Error(err)
	}
	if err := f.WriteData(stream, true, []byte(form.Encode())); err != nil {
		t.Error(fmt.Errorf("stream %d: %w", stream, err))
	}
}
