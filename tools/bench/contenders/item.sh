# The work of one item of a map: 20 ms in which it waits, as for a model, and a result as large as what went in.
sleep 0.02
tr a-z A-Z <"$1" >"$2"
