// Package authztest runs a whole server for tests: real Postgres, two real TLS listeners, clients of every kind, a
// customer with an account. A test speaks to it as an app ([Client]), as a browser ([Browser]) or as a resource service.
//
//	s := authztest.Start(t)
//	tpp := s.Client("tpp")
//	code := s.Approve(t, tpp, tpp.Push(t, nil))
//	tokens := tpp.Exchange(t, code)
//
// It belongs to tests: nothing that a server needs lives here.
package authztest
