// Package cue takes no policy: those in CUE are left out of this build.
package cue

import "errors"

var errAbsent = errors.New("policies in CUE are left out of this build")

func ValidateJSON([]byte, []string) error {
	return errAbsent
}
