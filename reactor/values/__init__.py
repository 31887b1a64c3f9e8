"""Documents as data: types, stored and wire forms, order, keys, ids, names, sizes."""
