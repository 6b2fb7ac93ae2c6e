package authz

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/authz/notify"
	"github.com/countersign/countersign/storage"
)

// What is sent again says how long it is good from now on, and is not sent once that is not at all.
func TestPushedAgain_CountsDown(t *testing.T) {
	t.Parallel()
	made := time.Now()
	payload, err := json.Marshal(keptTokens{made.Unix() + 300, &engine.TokenResponse{AccessToken: "a", ExpiresIn: 300}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		after  time.Duration
		status storage.OutcomeStatus
		want   int64 // 0 for refused
	}{
		{0, storage.Redeemed, 300}, {35 * time.Second, storage.Redeemed, 265}, {299 * time.Second, storage.Redeemed, 1},
		{300 * time.Second, storage.Redeemed, 0}, {time.Hour, storage.Redeemed, 0}, {0, storage.Ended, 0}, {0, storage.Granted, 0},
	} {
		s := &Server{now: func() time.Time { return made.Add(test.after) }}
		message, err := s.pushedAgain(payload, &storage.Outcome{Status: test.status}, "id")
		if test.want == 0 {
			if !errors.Is(err, notify.ErrRefused) || message != nil {
				t.Errorf("after %v, %s: %v, %v", test.after, test.status, message, err)
			}
			continue
		}
		if p, ok := message.(pushedTokens); err != nil || !ok || p.ExpiresIn != test.want || p.AccessToken != "a" || p.AuthReqID != "id" {
			t.Errorf("after %v: %+v, %v", test.after, message, err)
		}
	}
}
