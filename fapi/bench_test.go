package fapi

import (
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func BenchmarkCheckAssertion(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.PS256, jose.ES256, jose.EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			assertion := makeAssertion(alg, nil, nil)
			in := assertionContext()
			client := strictTPP()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.CheckAssertion(assertion, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheckDPoP(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.PS256, jose.ES256, jose.EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			headers := []string{makeProof(alg, nil, nil)}
			want := proofRequest()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := CheckDPoP(headers, want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAssertionIssuer(b *testing.B) {
	assertion := makeAssertion(jose.PS256, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AssertionIssuer(assertion); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolveRequest(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.PS256, jose.ES256, jose.EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			params := beside(makeObject(alg, nil, nil))
			in := objectContext(false)
			client := strictTPP()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.ResolveRequest(params, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
