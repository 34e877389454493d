// Lists the fields of all types that a Kubernetes API server knows which could hold a credential, for
// crates/redact/tests/it/fields.tsv. `cargo xtask fields` runs it.
//
// It walks the types that are registered in the schemes of client-go, apiextensions and kube-aggregator, and the audit
// event itself, by reflection over their JSON names, and prints three kinds of lines, separated by tabs:
//
//	version  MODULE-VERSION
//	place    KIND RESOURCE PATH FRAGMENT    a fragment (see below) stands at PATH in every object of KIND
//	field    KIND RESOURCE PATH TYPE        a leaf; KIND is a fragment where it begins with a capital and holds no slash
//
// A kind is `group/Kind`; all its versions count as one. A fragment is a type that stands in many kinds (ObjectMeta,
// PodSpec): its fields are listed once. In a path `[]` is an element of a list and `*` a key of a map.
//
// What is left out is what cannot hold a credential, by type or by name:
//   - numbers, booleans, times, quantities, and the types in `skipped`;
//   - lists of a kind (the elements are listed), the types of versioning machinery, and the group `extensions`, which
//     no API server serves since 1.22;
//   - strings of a type of their own (`PodPhase`): enumerations, which the API server checks;
//   - strings whose name is in `identifiers`: what such a name says is a name, not a value.
//
// All else is listed: a new field is listed unless one of these rules knows it.
package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/scheme"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	audit "k8s.io/apiserver/pkg/apis/audit/v1"
	core "k8s.io/client-go/kubernetes/scheme"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/scheme"
)

// Types whose fields are listed once.
var fragments = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta": "ObjectMeta",
	"k8s.io/api/core/v1.PodSpec":                      "PodSpec",
	"k8s.io/api/core/v1.Container":                    "Container",
	"k8s.io/api/core/v1.EphemeralContainerCommon":     "Container",
}

// Types that hold names, times and numbers alone.
var skipped = []string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.TypeMeta",
	"k8s.io/apimachinery/pkg/apis/meta/v1.ListMeta",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.OwnerReference",
	"k8s.io/apimachinery/pkg/apis/meta/v1.LabelSelector",
	// Names of fields, without their values.
	"k8s.io/apimachinery/pkg/apis/meta/v1.ManagedFieldsEntry",
	// Schemas inside of schemas, which are listed already.
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSONSchemaPropsOrStringArray",
	"k8s.io/apimachinery/pkg/api/resource.Quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString",
	"k8s.io/api/core/v1.ObjectReference",
	"k8s.io/api/core/v1.Affinity",
	"k8s.io/api/core/v1.NodeSelector",
	"k8s.io/api/core/v1.Toleration",
	"k8s.io/api/core/v1.Taint",
	"k8s.io/api/core/v1.TopologySpreadConstraint",
}

// Kinds of the machinery: lists are left out by their name, these by theirs.
var machinery = []string{
	"APIGroup", "APIVersions", "InternalEvent", "WatchEvent", "CreateOptions", "DeleteOptions", "GetOptions",
	"ListOptions", "PatchOptions", "UpdateOptions", "ConversionReview", "ConversionRequest", "ConversionResponse",
}

// Names of fields that identify or choose something.
var identifiers = []string{
	"apiGroup", "apiGroups", "apiVersion", "apiVersions", "categories", "class", "fieldPath", "fsType", "generateName",
	"group", "groups", "hostIP", "hostname", "ip", "key", "kind", "listKind", "name", "namespace", "nodeName", "plural",
	"port", "protocol", "rejectReason", "resource", "resourceVersion", "resources", "scope", "shortNames", "singular", "storageClassName",
	"subresource", "topologyKey", "type", "uid", "verb", "verbs", "version", "versions", "volumeName", "zone",
}

type walker struct {
	seen map[string]bool
}

func main() {
	w := walker{seen: map[string]bool{}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "k8s.io/api" {
				w.print("version", module.Version)
			}
		}
	}
	for _, scheme := range []*runtime.Scheme{core.Scheme, apiextensions.Scheme, aggregator.Scheme} {
		for kind, known := range scheme.AllKnownTypes() {
			w.kind(kind, known)
		}
	}
	w.kind(audit.SchemeGroupVersion.WithKind("Event"), reflect.TypeOf(audit.Event{}))
	lines := make([]string, 0, len(w.seen))
	for line := range w.seen {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	for _, line := range lines {
		if _, err := fmt.Println(line); err != nil {
			os.Exit(1)
		}
	}
}

func (w walker) print(columns ...string) {
	w.seen[strings.Join(columns, "\t")] = true
}

func (w walker) kind(kind schema.GroupVersionKind, known reflect.Type) {
	internal := kind.Version == runtime.APIVersionInternal
	if internal || kind.Group == "extensions" || strings.HasSuffix(kind.Kind, "List") || slices.Contains(machinery, kind.Kind) {
		return
	}
	group := kind.Group
	if group == "" {
		group = "core"
	}
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	w.walk(group+"/"+kind.Kind, resource.Resource, "", known, nil)
}

func (w walker) walk(kind, resource, path string, of reflect.Type, above []reflect.Type) {
	id := of.PkgPath() + "." + of.Name()
	if fragment, ok := fragments[id]; ok && path != "" {
		w.print("place", kind, resource, path, fragment)
		if !slices.Contains(above, of) {
			w.walk(fragment, "", "", of, []reflect.Type{of})
		}
		return
	}
	// A type inside of itself (the schema of a custom resource) is listed once.
	if slices.Contains(skipped, id) || (of.Kind() == reflect.Struct && path != "" && slices.Contains(above, of)) {
		return
	}
	switch of.Kind() {
	case reflect.Pointer:
		w.walk(kind, resource, path, of.Elem(), above)
	case reflect.Slice, reflect.Array:
		if of.Elem().Kind() == reflect.Uint8 {
			w.print("field", kind, resource, path, "bytes")
			return
		}
		w.walk(kind, resource, path+"[]", of.Elem(), above)
	case reflect.Map:
		w.walk(kind, resource, path+".*", of.Elem(), above)
	case reflect.Interface:
		w.print("field", kind, resource, path, "any")
	case reflect.String:
		w.text(kind, resource, path, of)
	case reflect.Struct:
		if document(of) {
			w.print("field", kind, resource, path, "any")
			return
		}
		w.members(kind, resource, path, of, append(slices.Clone(above), of))
	}
}

// Whether the type is any JSON document.
func document(of reflect.Type) bool {
	return slices.Contains([]string{"RawExtension", "Unknown", "JSON"}, of.Name())
}

func (w walker) members(kind, resource, path string, of reflect.Type, above []reflect.Type) {
	for i := range of.NumField() {
		field := of.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || !field.IsExported() {
			continue
		}
		below := path
		if name != "" || !(field.Anonymous || strings.Contains(options, "inline")) {
			if name == "" {
				name = field.Name
			}
			below = strings.TrimPrefix(path+"."+name, ".")
		}
		w.walk(kind, resource, below, field.Type, above)
	}
}

func (w walker) text(kind, resource, path string, of reflect.Type) {
	name := strings.TrimSuffix(path[strings.LastIndex(path, ".")+1:], "[]")
	if of.PkgPath() != "" || slices.Contains(identifiers, name) {
		return
	}
	w.print("field", kind, resource, path, "string")
}
