package fapi

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Every text that Refuse gets is a literal: fixed, without data of the request, and of the characters of RFC 6749 §5.2.
func TestRefuse_fixedTexts(t *testing.T) {
	t.Parallel()
	texts := 0
	for _, file := range must(filepath.Glob("*.go")) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		ast.Inspect(must(parser.ParseFile(token.NewFileSet(), file, nil, 0)), func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "Refuse" {
				return true
			}
			literal, ok := call.Args[1].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the text of a refusal is not a literal", file)
				return true
			}
			texts++
			text := must(strconv.Unquote(literal.Value))
			sendable(t, Refuse(InvalidRequest, text))
			if !strings.HasSuffix(text, ".") || strings.Contains(text, "%") {
				t.Errorf("%s: %q is no sentence", file, text)
			}
			return true
		})
	}
	if texts < 50 {
		t.Errorf("only %d texts were found", texts)
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	cause := errors.New("secret detail")
	err := fmt.Errorf("token: %w", Refuse(InvalidGrant, "The code has expired.").Because(cause))
	if !errors.Is(err, InvalidGrant) || errors.Is(err, InvalidClient) || !errors.Is(err, cause) {
		t.Error("errors.Is does not find the code or the cause")
	}
	if got := AsError(err); got.Code != InvalidGrant || got.Status != http.StatusBadRequest || strings.Contains(got.Description, "secret") {
		t.Errorf("got %+v", got)
	}
	if got := AsError(cause); got.Code != ServerError || got.Status != http.StatusInternalServerError || strings.Contains(got.Description, "secret") || !errors.Is(got, cause) {
		t.Errorf("a plain error must be server_error: %+v", got)
	}
	first := Refuse(AccessDenied, "No.")
	if first.WithStatus(403); first.Status != 400 {
		t.Error("WithStatus changes its receiver")
	}
	for code, status := range map[Code]int{
		InvalidClient: 401, InvalidToken: 401, InsufficientScope: 403, ServerError: 500, TemporarilyUnavailable: 503, InvalidDPoPProof: 400,
	} {
		if got := Refuse(code, "x").Status; got != status {
			t.Errorf("%s: status %d, want %d", code, got, status)
		}
	}
}
