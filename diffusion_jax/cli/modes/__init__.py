"""What main can do, one file per mode: build the parts, call one function each."""
