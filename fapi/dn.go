package fapi

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// distinguishedName is an X.501 name: its RDNs in the order in which they were written, each with its attributes
// sorted. Every attribute is its dotted OID, "=", and its value in one spelling, so that names can be compared.
type distinguishedName [][]string

const maxDN = 2048

// same compares two names. RFC 4514 §2.1 writes an ASN.1 sequence from its end, but many tools write it as it is
// encoded: both are the same name. Values are compared exactly, whatever string type encodes them.
func (dn distinguishedName) same(other distinguishedName) bool {
	if len(dn) == 0 || len(dn) != len(other) {
		return false
	}
	equal := func(i, j int) bool { return slices.Equal(dn[i], other[j]) }
	forward, backward, last := true, true, len(dn)-1
	for i := range dn {
		forward = forward && equal(i, i)
		backward = backward && equal(i, last-i)
	}
	return forward || backward
}

// attributeNames are the short names of RFC 4514 §3 and those that certificates of banks use (X.520, RFC 4519,
// ETSI EN 319 412, CA/Browser Forum). Others are written as dotted OIDs.
var attributeNames = map[string]string{
	"cn": "2.5.4.3", "commonname": "2.5.4.3",
	"sn": "2.5.4.4", "surname": "2.5.4.4",
	"serialnumber": "2.5.4.5",
	"c":            "2.5.4.6", "countryname": "2.5.4.6",
	"l": "2.5.4.7", "localityname": "2.5.4.7",
	"st": "2.5.4.8", "s": "2.5.4.8", "stateorprovincename": "2.5.4.8",
	"street": "2.5.4.9", "streetaddress": "2.5.4.9",
	"o": "2.5.4.10", "organizationname": "2.5.4.10",
	"ou": "2.5.4.11", "organizationalunitname": "2.5.4.11",
	"title":            "2.5.4.12",
	"description":      "2.5.4.13",
	"businesscategory": "2.5.4.15",
	"postalcode":       "2.5.4.17",
	"telephonenumber":  "2.5.4.20",
	"name":             "2.5.4.41",
	"gn":               "2.5.4.42", "givenname": "2.5.4.42",
	"initials":               "2.5.4.43",
	"generationqualifier":    "2.5.4.44",
	"dnqualifier":            "2.5.4.46",
	"pseudonym":              "2.5.4.65",
	"organizationidentifier": "2.5.4.97",
	"dc":                     "0.9.2342.19200300.100.1.25", "domaincomponent": "0.9.2342.19200300.100.1.25",
	"uid": "0.9.2342.19200300.100.1.1", "userid": "0.9.2342.19200300.100.1.1",
	"e": "1.2.840.113549.1.9.1", "emailaddress": "1.2.840.113549.1.9.1",
	"jurisdictionlocalityname":        "1.3.6.1.4.1.311.60.2.1.1",
	"jurisdictionstateorprovincename": "1.3.6.1.4.1.311.60.2.1.2",
	"jurisdictioncountryname":         "1.3.6.1.4.1.311.60.2.1.3",
}

// parseRawDN reads the DER of a certificate's name.
func parseRawDN(der []byte) (distinguishedName, error) {
	type attributeSET []struct { // asn1 knows a SET by the end of its type's name
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var rdns []attributeSET
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return nil, errors.New("not a distinguished name")
	}
	dn := make(distinguishedName, 0, len(rdns))
	for _, rdn := range rdns {
		attributes := make([]string, 0, len(rdn))
		for _, a := range rdn {
			attributes = append(attributes, a.Type.String()+"="+spell(a.Value))
		}
		slices.Sort(attributes)
		dn = append(dn, attributes)
	}
	return dn, nil
}

// spell writes a value in one way: text as text, whatever its ASN.1 string type, and anything else as its DER.
func spell(v asn1.RawValue) string {
	if v.Class == asn1.ClassUniversal && !v.IsCompound {
		if text, ok := decodeText(v.Tag, v.Bytes); ok {
			return "text:" + text
		}
	}
	return "der:" + hex.EncodeToString(v.FullBytes)
}

func decodeText(tag int, value []byte) (string, bool) {
	switch tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		return string(value), utf8.Valid(value)
	case asn1.TagT61String: // in practice Latin-1
		runes := make([]rune, len(value))
		for i, b := range value {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.TagBMPString:
		if len(value)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(value)/2)
		for i := range units {
			units[i] = uint16(value[2*i])<<8 | uint16(value[2*i+1])
			if utf16.IsSurrogate(rune(units[i])) {
				return "", false // UCS-2 has none; as DER it stays distinct
			}
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// parseDN reads the string form of a name (RFC 4514 §3), with spaces around separators as RFC 2253 §4 let them be.
func parseDN(text string) (distinguishedName, error) {
	if text == "" || len(text) > maxDN || !utf8.ValidString(text) {
		return nil, errors.New("empty, too long or not UTF-8")
	}
	var dn distinguishedName
	var rdn []string
	for rest := text; ; {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, errors.New("an attribute without value: want a string like CN=Name,O=Organisation,C=GB (RFC 4514)")
		}
		oid, err := attributeOID(strings.Trim(name, " "))
		if err != nil {
			return nil, err
		}
		value, separator, after, err := parseValue(after)
		if err != nil {
			return nil, fmt.Errorf("value of %s: %w", strings.Trim(name, " "), err)
		}
		rdn = append(rdn, oid+"="+value)
		rest = after
		if separator == '+' { // one more attribute of the same RDN
			continue
		}
		slices.Sort(rdn)
		dn, rdn = append(dn, rdn), nil
		if separator == 0 {
			return dn, nil
		}
	}
}

func attributeOID(name string) (string, error) {
	lower := strings.ToLower(name)
	if oid := attributeNames[lower]; oid != "" {
		return oid, nil
	}
	dotted := strings.TrimPrefix(lower, "oid.") // RFC 1779 and Java write that
	arcs := strings.Split(dotted, ".")
	for i, arc := range arcs {
		if arc == "" || len(arc) > 9 || strings.Trim(arc, "0123456789") != "" || len(arc) > 1 && arc[0] == '0' ||
			i == 0 && (len(arc) > 1 || arc > "2") {
			return "", fmt.Errorf("attribute %q is not known: write its OID in numbers", name)
		}
	}
	if len(arcs) < 2 {
		return "", fmt.Errorf("attribute %q is not known: write its OID in numbers", name)
	}
	return dotted, nil
}

// parseValue reads one attribute value up to "," or "+", which it returns, or to the end, which is 0.
func parseValue(text string) (value string, separator byte, rest string, err error) {
	text = strings.TrimLeft(text, " ")
	if strings.HasPrefix(text, "#") {
		end := strings.IndexAny(text, ",+")
		if end < 0 {
			end = len(text)
		} else {
			separator, rest = text[end], text[end+1:]
		}
		der, err := hex.DecodeString(strings.TrimRight(text[1:end], " "))
		if err != nil {
			return "", 0, "", errors.New("not hexadecimal")
		}
		var v asn1.RawValue
		if trailing, err := asn1.Unmarshal(der, &v); err != nil || len(trailing) > 0 {
			return "", 0, "", errors.New("not one BER value")
		}
		return spell(v), separator, rest, nil
	}
	quoted := strings.HasPrefix(text, `"`) // RFC 2253 §4; OpenSSL prints names so
	text = strings.TrimPrefix(text, `"`)
	var out []byte
	solid := 0 // how much of out must stay: spaces after it were not escaped
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' && quoted:
			text = strings.TrimLeft(text[i+1:], " ")
			if text == "" {
				return finishValue(out, 0, "")
			} else if text[0] != ',' && text[0] != '+' {
				return "", 0, "", errors.New("it goes on after the closing quote")
			}
			return finishValue(out, text[0], text[1:])
		case quoted && c != '\\' && c != 0:
			out = append(out, c)
		case c == ',', c == '+':
			return finishValue(out[:solid], c, text[i+1:])
		case strings.IndexByte("\";<>\x00", c) >= 0:
			return "", 0, "", fmt.Errorf("%q must be escaped with a backslash", c)
		case c == ' ':
			out = append(out, c)
			continue
		case c == '\\':
			switch {
			case i+1 < len(text) && strings.IndexByte(` "#+,;<=>\`, text[i+1]) >= 0:
				out = append(out, text[i+1])
				i++
			case i+2 < len(text):
				pair, err := hex.DecodeString(text[i+1 : i+3])
				if err != nil {
					return "", 0, "", errors.New("a backslash without a special character or two hexadecimal digits")
				}
				out = append(out, pair[0])
				i += 2
			default:
				return "", 0, "", errors.New("it ends in a backslash")
			}
		default:
			out = append(out, c)
		}
		solid = len(out)
	}
	if quoted {
		return "", 0, "", errors.New("the closing quote is missing")
	}
	return finishValue(out[:solid], 0, "")
}

func finishValue(value []byte, separator byte, rest string) (string, byte, string, error) {
	if !utf8.Valid(value) {
		return "", 0, "", errors.New("not UTF-8")
	}
	return "text:" + string(value), separator, rest, nil
}
