"""Data set of a run from files: labels, features, splits and the sealed test set.

Tables of every size take the same path:

1. `files/raw_tables.py` reads a file of any known container as cells that know their lines (`RawTable`).
2. `files/table.py` checks every column, drops unlabelled rows and copies, and sorts dated rows. A `Table` has the
   columns that the config names and finds the features by name. Above a bound on memory they stay in the Parquet file.
3. `seal.py` marks the sealed rows and leaves out features that the development rows do not allow (`Development`).
4. `table_dataset.py` writes the features as float32, in blocks of rows, to one array (`Dataset`). The array is in
   memory or, above the bound, a memory map.
5. `training/inputs.py` makes network inputs of the rows, and an engine takes batches of them.
"""
