package fapi

import (
	"encoding/asn1"
	"testing"
)

// attribute is one attribute of a name, as a test writes it.
type attribute struct {
	oid   asn1.ObjectIdentifier
	tag   int
	value string
}

var (
	oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidO  = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOU = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidC  = asn1.ObjectIdentifier{2, 5, 4, 6}
)

// encodeDN makes the DER of a name.
func encodeDN(rdns ...[]attribute) []byte {
	type pairSET []struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	name := make([]pairSET, len(rdns))
	for i, rdn := range rdns {
		for _, a := range rdn {
			name[i] = append(name[i], struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}{a.oid, asn1.RawValue{Tag: a.tag, Bytes: []byte(a.value)}})
		}
	}
	return must(asn1.Marshal(name))
}

func TestDN(t *testing.T) {
	t.Parallel()
	utf := func(oid asn1.ObjectIdentifier, value string) []attribute {
		return []attribute{{oid, asn1.TagUTF8String, value}}
	}
	plain := encodeDN(utf(oidC, "GB"), utf(oidO, "Acme"), utf(oidCN, "tpp"))
	for _, test := range []struct {
		name, registered string
		der              []byte
		same             bool
	}{
		{"RFC 4514 §2.1: from the end", "CN=tpp,O=Acme,C=GB", plain, true},
		{"as it is encoded", "C=GB,O=Acme,CN=tpp", plain, true},
		{"no other order", "O=Acme,CN=tpp,C=GB", plain, false},
		{"RFC 4514 §3: names in any case", "cn=tpp,o=Acme,c=GB", plain, true},
		{"RFC 4514 §3: dotted OIDs", "2.5.4.3=tpp,2.5.4.10=Acme,OID.2.5.4.6=GB", plain, true},
		{"RFC 2253 §4: spaces around separators", " CN = tpp , O = Acme , C = GB ", plain, true},
		{"RFC 4514 §2.4: hex", "CN=#0c03747070,O=Acme,C=GB", plain, true},
		{"RFC 4514 §2.4: hex of another string type", "CN=#1303747070,O=Acme,C=GB", plain, true},
		{"RFC 4514 §3: escapes by code", `CN=\74\70p,O=Acme,C=GB`, plain, true},
		{"RFC 2253 §4: quotes", `CN="tpp",O="Acme" ,C=GB`, plain, true},
		{"values are exact", "CN=TPP,O=Acme,C=GB", plain, false},
		{"an RDN more", "CN=tpp,OU=x,O=Acme,C=GB", plain, false},
		{"an RDN less", "CN=tpp,O=Acme", plain, false},
		{"another attribute", "CN=tpp,OU=Acme,C=GB", plain, false},
		{"two RDNs are not one with two attributes", "CN=tpp+O=Acme,C=GB", plain, false},
		{"an escaped comma is no separator", `CN=tpp\,O=Acme,C=GB`, plain, false},
		{"a value with a separator is not two", "CN=x,O=y", encodeDN(utf(oidCN, "x,O=y")), false},
		{"RFC 4514 §2.4: a comma in a value", `CN=x\,O\=y`, encodeDN(utf(oidCN, "x,O=y")), true},
		{"PrintableString", "C=GB", encodeDN([]attribute{{oidC, asn1.TagPrintableString, "GB"}}), true},
		{"T61String", "O=Bücher", encodeDN([]attribute{{oidO, asn1.TagT61String, "B\xfccher"}}), true},
		{"BMPString", "O=Bü", encodeDN([]attribute{{oidO, asn1.TagBMPString, "\x00B\x00\xfc"}}), true},
		{"BMPString with an odd byte is bytes", "O=B", encodeDN([]attribute{{oidO, asn1.TagBMPString, "\x00B\x00"}}), false},
		{"BMPString has no surrogates", "O=😀", encodeDN([]attribute{{oidO, asn1.TagBMPString, "\xd8\x3d\xde\x00"}}), false},
		{"RFC 4514 §2.4: other types are bytes", "O=#0403414243", encodeDN([]attribute{{oidO, asn1.TagOctetString, "ABC"}}), true},
		{"bytes are no text", "O=ABC", encodeDN([]attribute{{oidO, asn1.TagOctetString, "ABC"}}), false},
		{"RFC 4514 §2.2: attributes of an RDN in any order", "OU=Sales+CN=J. Smith,C=GB",
			encodeDN(utf(oidC, "GB"), []attribute{{oidCN, asn1.TagUTF8String, "J. Smith"}, {oidOU, asn1.TagUTF8String, "Sales"}}), true},
		{"RFC 4514 §4: spaces inside stay", "CN=J.  Smith", encodeDN(utf(oidCN, "J.  Smith")), true},
		{"RFC 4514 §4: as many as there are", "CN=J. Smith", encodeDN(utf(oidCN, "J.  Smith")), false},
		{"RFC 4514 §4: quotes", `CN=James \"Jim\" Smith\, III`, encodeDN(utf(oidCN, `James "Jim" Smith, III`)), true},
		{"RFC 4514 §4: a line feed", `CN=Before\0dAfter`, encodeDN(utf(oidCN, "Before\rAfter")), true},
		{"RFC 4514 §4: UTF-8 by code", `CN=Lu\C4\8Di\C4\87`, encodeDN(utf(oidCN, "Lučić")), true},
		{"RFC 4514 §2.4: NUL is escaped", `CN=a\00b`, encodeDN(utf(oidCN, "a\x00b")), true},
		{"NUL does not end a name", `CN=a`, encodeDN(utf(oidCN, "a\x00b")), false},
		{"an empty value", "CN=,C=GB", encodeDN(utf(oidC, "GB"), utf(oidCN, "")), true},
		{"an empty subject", "CN=x", encodeDN(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			registered, err := parseDN(test.registered)
			if err != nil {
				t.Fatal(err)
			}
			subject, err := parseRawDN(test.der)
			if err != nil {
				t.Fatal(err)
			}
			if got := registered.same(subject); got != test.same {
				t.Errorf("same is %v: %q and %q", got, registered, subject)
			}
			if subject.same(registered) != test.same {
				t.Error("not symmetric")
			}
		})
	}
}

func TestParseDN_refuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "no value": "CN", "the old OpenSSL form": "/C=GB/CN=x", "a comma at the end": "CN=x,",
		"an unknown attribute": "FOO=x", "an OID with letters": "1.2.x=y", "an OID of one number": "1=x", "an OID with a leading zero": "1.02=x",
		"an OID that begins with 3": "3.1=x", "an empty attribute": "=x", "an open quote": `CN="x`, "more after a quote": `CN="x"y`,
		"an unescaped semicolon": "CN=x;C=GB", "an unescaped quote": `CN=x"y`, "a backslash at the end": `CN=x\`,
		"a bad escape": `CN=\zz`, "half an escape": `CN=\4`, "escapes that are not UTF-8": `CN=\ff`, "not UTF-8": "CN=\xff",
		"hex that is none": "CN=#zz", "hex that is no BER": "CN=#00ff", "hex with more": "CN=#0c0178ff", "an unescaped NUL": "CN=\x00",
	} {
		t.Run("RFC 4514 §3: refuses "+name, func(t *testing.T) {
			t.Parallel()
			if dn, err := parseDN(text); err == nil {
				t.Errorf("accepted: %q", dn)
			}
		})
	}
	if (distinguishedName{}).same(distinguishedName{}) {
		t.Error("no name is the same as no name")
	}
	if _, err := parseRawDN(append(encodeDN(), 0)); err == nil {
		t.Error("X.690: bytes after a name are accepted")
	}
}
