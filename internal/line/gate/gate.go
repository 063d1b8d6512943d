// Package gate owns the policy and the decisions over evidence.
package gate
