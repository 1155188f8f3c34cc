package gateway

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"larder/auth/sigv4"
	"larder/gateway/s3xml"
)

// backendErrors is every sentinel of backend.go; TestErrorTable finds out if one is missing here.
var backendErrors = map[string]error{
	"ErrNoSuchBucket": ErrNoSuchBucket, "ErrBucketExists": ErrBucketExists, "ErrBucketNotEmpty": ErrBucketNotEmpty, "ErrNoSuchKey": ErrNoSuchKey,
	"ErrNoSuchUpload": ErrNoSuchUpload, "ErrInvalidPart": ErrInvalidPart, "ErrInvalidPartOrder": ErrInvalidPartOrder, "ErrPartTooSmall": ErrPartTooSmall,
	"ErrPrecondition": ErrPrecondition, "ErrConflict": ErrConflict, "ErrUnavailable": ErrUnavailable, "ErrOverloaded": ErrOverloaded, "ErrNoSpace": ErrNoSpace,
	"ErrNoSuchAccessKey": ErrNoSuchAccessKey,
}

// sentinels returns the names of the Err variables that a file declares, sorted.
func sentinels(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
			names = append(names, v.Names[0].Name)
		}
		return true
	})
	sort.Strings(names)
	return names
}

// TestErrorTable walks the table both ways: each error of this program has a row, and each row's errors lead back to it.
func TestErrorTable(t *testing.T) {
	for _, name := range sentinels(t, "backend.go") {
		err := backendErrors[name]
		if err == nil {
			t.Errorf("%s of backend.go is not in this test's list", name)
			continue
		}
		e := asError(fmt.Errorf("objects: put: %w", err))
		if e.Code == "InternalError" || e.text() == "" {
			t.Errorf("%s has no row in errorTable", name)
		}
	}
	covered := map[string]bool{}
	for i, row := range errorTable {
		if i > 0 && errorTable[i-1].code >= row.code {
			t.Errorf("%s is out of order or twice in the table", row.code)
		}
		if row.status < 300 || row.message == "" {
			t.Errorf("%s: status %d, message %q", row.code, row.status, row.message)
		}
		for _, kind := range row.kinds {
			if e := asError(fmt.Errorf("wrapped: %w", kind)); e.Code != row.code || e.status() != row.status {
				t.Errorf("%v of row %s becomes %s", kind, row.code, e.Code)
			}
			covered[kind.Error()] = true
		}
	}
	for kind := range kindMessages {
		if !covered[kind.Error()] {
			t.Errorf("%v has a message and no row", kind)
		}
	}
	for _, name := range sentinels(t, "../auth/sigv4/errors.go") {
		found := false
		for kind := range sigv4Errors {
			found = found || kind == name
		}
		if !found {
			t.Errorf("sigv4.%s is not in this test's list", name)
		} else if asError(sigv4Errors[name]).Code == "InternalError" {
			t.Errorf("sigv4.%s has no row in errorTable", name)
		}
	}
}

var sigv4Errors = map[string]error{
	"ErrAnonymous": sigv4.ErrAnonymous, "ErrTwoMechanisms": sigv4.ErrTwoMechanisms, "ErrAuthType": sigv4.ErrAuthType, "ErrUnsupported": sigv4.ErrUnsupported,
	"ErrHeaderMalformed": sigv4.ErrHeaderMalformed, "ErrQueryMalformed": sigv4.ErrQueryMalformed, "ErrMissingDate": sigv4.ErrMissingDate,
	"ErrMissingHash": sigv4.ErrMissingHash, "ErrInvalidHash": sigv4.ErrInvalidHash, "ErrSkewed": sigv4.ErrSkewed, "ErrNotYetValid": sigv4.ErrNotYetValid,
	"ErrExpired": sigv4.ErrExpired, "ErrUnsignedHeaders": sigv4.ErrUnsignedHeaders, "ErrSignature": sigv4.ErrSignature, "ErrToken": sigv4.ErrToken,
	"ErrURI": sigv4.ErrURI, "ErrIncompleteBody": sigv4.ErrIncompleteBody, "ErrChunkFraming": sigv4.ErrChunkFraming, "ErrChunkTooSmall": sigv4.ErrChunkTooSmall,
	"ErrChunkSignature": sigv4.ErrChunkSignature, "ErrTrailer": sigv4.ErrTrailer, "ErrTrailerSignature": sigv4.ErrTrailerSignature,
}

// TestCodesAreInTable reads the package's source: every code that is refused with has a row, and every row is used.
func TestCodesAreInTable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"InternalError": true, "InvalidArgument": true}
	literal := func(e ast.Expr) (string, bool) {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return "", false
		}
		return strings.Trim(l.Value, `"`), true
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "refuse" || f.Name == "refusef" || f.Name == "absent") {
					if code, ok := literal(n.Args[0]); ok {
						used[code] = true
					}
				}
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Code" {
					if code, ok := literal(n.Value); ok {
						used[code] = true
					}
				}
			case *ast.AssignStmt:
				if k, ok := n.Lhs[0].(*ast.Ident); ok && k.Name == "code" {
					if code, ok := literal(n.Rhs[0]); ok && code != "OK" {
						used[code] = true
					}
				}
			}
			return true
		})
	}
	for code := range used {
		if errorRows[code] == nil && code != "Panic" {
			t.Errorf("%s is refused with and has no row", code)
		}
	}
	for _, row := range errorTable {
		if !used[row.code] && row.kinds == nil {
			t.Errorf("nothing ever refuses with %s", row.code)
		}
	}
}

func TestErrorsBecomeInternal(t *testing.T) {
	e := asError(errors.New("disk on fire"))
	if e.Code != "InternalError" || e.status() != 500 || strings.Contains(e.text(), "fire") {
		t.Errorf("unknown error is told as %s: %s", e.Code, e.text())
	}
	if e := asError(fmt.Errorf("x: %w", context.DeadlineExceeded)); e.status() != 503 {
		t.Errorf("a deadline is %d", e.status())
	}
	if e := asError(s3xml.ErrTooLarge); e.Code != "MalformedXML" {
		t.Errorf("a document too large is %s", e.Code)
	}
}

// TestOperationTable checks the table itself: no row hides another, and each known operation has one row.
func TestOperationTable(t *testing.T) {
	names, routes := map[string]bool{}, map[string]string{}
	for _, op := range operations {
		if names[op.name] {
			t.Errorf("%s is in the table twice", op.name)
		}
		names[op.name] = true
		route := fmt.Sprint(op.method, op.kind, op.selects, op.copies)
		if other := routes[route]; other != "" {
			t.Errorf("%s and %s take the same requests", op.name, other)
		}
		routes[route] = op.name
		for _, h := range op.headers {
			if h != strings.ToLower(h) {
				t.Errorf("%s: header %s is not in lower case", op.name, h)
			}
		}
		if op.streams && op.method != "PUT" {
			t.Errorf("%s streams and is no PUT", op.name)
		}
	}
	if len(names) < 90 {
		t.Errorf("only %d operations in the table", len(names))
	}
}
