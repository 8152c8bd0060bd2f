"""The controllers that move the simulated world: each looks at objects, acts, and says when it must look again."""
