# The release's Python would make bytecode here, and delete the sources.
Python3/CompileAll = test -d $(1)
Python3/DeleteSourceFiles = test -d $(1)
