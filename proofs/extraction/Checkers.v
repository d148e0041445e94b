(** The checkers of network/ as OCaml, for networks beyond the kernel's reach. Whole numbers become zarith's: that, Coq's
    extraction and the OCaml compiler are trusted here besides the kernel. *)
From Coq Require Import ZArith List.
From Coq Require Extraction ExtrOcamlBasic ExtrOcamlNatInt ExtrOcamlZBigInt.
From Deqops Require Import Layers SupNorm Euclid.

Extraction "checkers.ml" Layers.stored SupNorm.sup_norm_ok SupNorm.near_ok Euclid.euclidean_plain_ok.
