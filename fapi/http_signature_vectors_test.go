package fapi

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// vectorKeys are the public keys of RFC 9421 §B.1.
func vectorKeys() *jose.JSONWebKeySet {
	set := &jose.JSONWebKeySet{}
	for kid, text := range map[string]string{
		"test-key-rsa-pss": `MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB`,
		"test-key-ecc-p256": `MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==`,
		"test-key-ed25519": `MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=`,
	} {
		block, _ := pem.Decode([]byte("-----BEGIN PUBLIC KEY-----\n" + text + "\n-----END PUBLIC KEY-----\n"))
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: must(x509.ParsePKIXPublicKey(block.Bytes)), KeyID: kid})
	}
	return set
}

const helloDigest = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"

// vectorRequest is the test-request of RFC 9421 §B.2.
func vectorRequest() *HTTPMessage {
	return &HTTPMessage{
		Method: "POST", TargetURI: "https://example.com/foo?param=Value&Pet=dog", Body: []byte(`{"hello": "world"}`),
		Header: http.Header{
			"Date": {"Tue, 20 Apr 2021 02:07:55 GMT"}, "Content-Type": {"application/json"}, "Content-Length": {"18"},
			"Content-Digest": {helloDigest},
		},
	}
}

// vectorResponse is its test-response.
func vectorResponse() *HTTPMessage {
	return &HTTPMessage{
		Status: 200, Request: vectorRequest(), Body: []byte(`{"message": "good dog"}`),
		Header: http.Header{
			"Date": {"Tue, 20 Apr 2021 02:07:56 GMT"}, "Content-Type": {"application/json"}, "Content-Length": {"23"},
			"Content-Digest": {"sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:"},
		},
	}
}

// busyResponse is the response of RFC 9421 §2.4.
func busyResponse() *HTTPMessage {
	m := vectorResponse()
	m.Status, m.Body = 503, []byte(`{"busy": true, "message": "Your call is very important to us"}`)
	m.Header.Set("Content-Digest", "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:")
	m.Header.Set("Content-Length", "62")
	return m
}

// demoRequest is the first request of RFC 9421 §B.4.
func demoRequest() *HTTPMessage {
	return &HTTPMessage{
		Method: "GET", TargetURI: "https://example.org/demo?name1=Value1&Name2=value2",
		Header: http.Header{"Date": {"Fri, 15 Jul 2022 14:24:55 GMT"}, "Accept": {"application/json", "*/*"}},
	}
}

func TestHTTPSignature_Vectors(t *testing.T) {
	t.Parallel()
	keys := vectorKeys()
	const transform = `("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519"`
	const transformed = `:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:`
	for _, v := range []struct {
		name      string
		message   *HTTPMessage
		input     string
		signature string
		change    func(*HTTPMessage)
		invalid   bool
	}{
		{name: "B.2.1: nothing, rsa-pss-sha512", message: vectorRequest(),
			input:     `();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
			signature: ":d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:"},
		{name: "B.2.2: some of it, rsa-pss-sha512", message: vectorRequest(),
			input:     `("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example"`,
			signature: ":LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:"},
		{name: "B.2.3: all of it, rsa-pss-sha512", message: vectorRequest(),
			input:     `("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
			signature: ":bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:"},
		{name: "B.2.4: a response, ecdsa-p256-sha256", message: vectorResponse(),
			input:     `("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256"`,
			signature: ":wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==:"},
		{name: "B.2.6: a request, ed25519", message: vectorRequest(),
			input:     `("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
			signature: ":wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"},
		{name: "§2.4: a response tied to its request", message: busyResponse(),
			input:     `("@status" "content-digest" "content-type" "@authority";req "@method";req "@path";req "content-digest";req);created=1618884479;keyid="test-key-ecc-p256"`,
			signature: ":dMT/A/76ehrdBTD/2Xx8QuKV6FoyzEP/I9hdzKN8LQJLNgzU4W767HK05rx1i8meNQQgQPgQp8wq2ive3tV5Ag==:"},
		{name: "§2.4: a response tied to a signed request", message: busyResponse(),
			input:     `("@status" "content-digest" "content-type" "@authority";req "@method";req "@path";req "@query";req "content-digest";req "content-type";req "content-length";req);created=1618884479;keyid="test-key-ecc-p256"`,
			signature: ":C73J41GVKc+TYXbSobvZf0CmNcptRiWN+NY1Or0A36ISg6ymdRN6ZgR2QfrtopFNzqAyv+CeWrMsNbcV2Ojsgg==:"},
		{name: "B.4: two lines of a field", message: demoRequest(), input: transform, signature: transformed},
		{name: "B.4: what is not covered may change", message: demoRequest(), input: transform, signature: transformed, change: func(m *HTTPMessage) {
			m.Header.Set("Accept-Language", "en-US,en;q=0.5")
			m.TargetURI += "&param=added"
		}},
		{name: "B.4: lines may be combined", message: demoRequest(), input: transform, signature: transformed, change: func(m *HTTPMessage) {
			m.Header["Accept"] = []string{"application/json, */*"}
		}},
		{name: "B.4: but not swapped", message: demoRequest(), input: transform, signature: transformed, invalid: true, change: func(m *HTTPMessage) {
			m.Header["Accept"] = []string{"*/*", "application/json"}
		}},
		{name: "B.4: another method and authority", message: demoRequest(), input: transform, signature: transformed, invalid: true, change: func(m *HTTPMessage) {
			m.Method, m.TargetURI = "POST", strings.Replace(m.TargetURI, ".org", ".com", 1)
		}},
		{name: "another created", message: demoRequest(), input: strings.Replace(transform, "473", "474", 1), signature: transformed, invalid: true},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			if v.change != nil {
				v.change(v.message)
			}
			members := must(parseDictionary([]string{"a=" + v.input, "b=" + v.signature}))
			base := must(v.message.signatureBase(&members[0].fieldItem))
			kid, _ := paramOf[string](&members[0].fieldItem, "keyid")
			err := verifyHTTP(keys, kid, "", base, members[1].value.([]byte))
			if (err != nil) != v.invalid {
				t.Errorf("%v, over\n%s", err, base)
			}
			if written := members[0].String(); written != v.input {
				t.Errorf("written again: %s", written)
			}
		})
	}
}

func TestContentDigest_Vectors(t *testing.T) {
	t.Parallel()
	const hello = `{"hello": "world"}`
	right := contentDigest([]byte(hello))
	for _, v := range []struct {
		name    string
		digests []string
		invalid bool
	}{
		{"RFC 9421 §2.4: sha-512", []string{helloDigest}, false},
		{"RFC 9530 §B.1: sha-256", []string{"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"}, false},
		{"both, on two lines", []string{helloDigest, right}, false},
		{"one that is not known beside", []string{"md5=:Sd/dVLAcvNLSq16eXua5uQ==:, " + right}, false},
		{"none that is known (RFC 9530 §5)", []string{"md5=:Sd/dVLAcvNLSq16eXua5uQ==:"}, true},
		{"one right, one wrong", []string{helloDigest + ", sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPA=:"}, true},
		{"a wrong one", []string{"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPA=:"}, true},
		{"no bytes", []string{`sha-256="x"`}, true},
		{"empty", []string{""}, true},
		{"twice", []string{right, right}, true},
		{"no dictionary", []string{":x:"}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			m := &HTTPMessage{Header: http.Header{"Content-Digest": v.digests}, Body: []byte(hello)}
			if err := m.CheckContentDigest(); (err != nil) != v.invalid {
				t.Error(err)
			}
		})
	}
}
