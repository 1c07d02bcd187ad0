// Package rego takes no policy: those in Rego are left out of this build.
package rego

import "errors"

var errAbsent = errors.New("policies in Rego are left out of this build")

func ValidateJSON([]byte, []string) []error {
	return []error{errAbsent}
}
