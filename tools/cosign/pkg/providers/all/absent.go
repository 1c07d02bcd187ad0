// Package all registers no provider of identity tokens: they are left out of this build.
package all
