//go:build ignore

// Lists the exported items of gnet's packages that its users meet, one a line, sorted:
//
//	cd bench/peers/gnet
//	go run ../../../ci/gnet_items.go "$(go list -m -f '{{.Dir}}' github.com/panjf2000/gnet/v2)"
//
// ci/from_gnet.py compares the list with the tables of docs/from-gnet.md. Interfaces and
// structures count by their members, embedded ones by the methods that they bring. Of packages
// that no program on gnet has a reason to import, the name alone is listed.
package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
)

// Packages whose items are listed, with the prefix that they have in a program.
var packages = map[string]string{
	".":                   "",
	"pkg/errors":          "errors.",
	"pkg/logging":         "logging.",
	"pkg/pool/goroutine":  "goroutine.",
	"pkg/pool/bytebuffer": "bytebuffer.",
	"pkg/pool/byteslice":  "byteslice.",
	"pkg/pool/ringbuffer": "ringbuffer.",
}

// What interfaces of other packages bring when they are embedded.
var embedded = map[string][]string{
	"io.Reader": {"Read"}, "io.WriterTo": {"WriteTo"},
	"io.Writer": {"Write"}, "io.ReaderFrom": {"ReadFrom"},
}

var items []string

func add(name string) { items = append(items, name) }

func main() {
	if len(os.Args) != 2 {
		fail("usage: gnet_items DIRECTORY-OF-GNET")
	}
	root := os.Args[1]
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if entry.Name() == "internal" || entry.Name() == "testdata" {
			return filepath.SkipDir
		}
		found, err := build.ImportDir(path, 0)
		if err != nil {
			return nil // a directory without Go files for this system
		}
		if prefix, listed := packages[name]; listed {
			list(found, prefix)
		} else {
			add(name)
		}
		return nil
	})
	if err != nil {
		fail(err)
	}
	slices.Sort(items)
	for _, item := range slices.Compact(items) {
		fmt.Println(item)
	}
}

func list(found *build.Package, prefix string) {
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(found.Dir, name), nil, 0)
		if err != nil {
			fail(err)
		}
		for _, declared := range file.Decls {
			switch declared := declared.(type) {
			case *ast.FuncDecl:
				listFunction(declared, prefix)
			case *ast.GenDecl:
				for _, spec := range declared.Specs {
					listSpec(spec, prefix)
				}
			}
		}
	}
}

func listFunction(function *ast.FuncDecl, prefix string) {
	if !function.Name.IsExported() {
		return
	}
	if function.Recv == nil {
		add(prefix + function.Name.Name)
		return
	}
	receiver := function.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	if receiver, ok := receiver.(*ast.Ident); ok && receiver.IsExported() {
		add(prefix + receiver.Name + "." + function.Name.Name)
	}
}

func listSpec(spec ast.Spec, prefix string) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() {
				add(prefix + name.Name)
			}
		}
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return
		}
		name := prefix + spec.Name.Name
		add(name)
		switch kind := spec.Type.(type) {
		case *ast.InterfaceType:
			listMembers(kind.Methods, name)
		case *ast.StructType:
			listMembers(kind.Fields, name)
		}
	}
}

func listMembers(members *ast.FieldList, owner string) {
	for _, member := range members.List {
		for _, name := range member.Names {
			if name.IsExported() {
				add(owner + "." + name.Name)
			}
		}
		if other, ok := member.Type.(*ast.SelectorExpr); ok && len(member.Names) == 0 {
			embeds := fmt.Sprintf("%s.%s", other.X, other.Sel)
			if embedded[embeds] == nil {
				fail(owner + " embeds " + embeds + ", which is not known here")
			}
			for _, method := range embedded[embeds] {
				add(owner + "." + method)
			}
		}
	}
}

func fail(what any) {
	fmt.Fprintln(os.Stderr, "error:", what)
	os.Exit(1)
}
