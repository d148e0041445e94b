(** T8 [causal]: where the components of G(y) depend only on components of lower levels, Picard's iteration ends.

    A state is a function from components (of any type I) to values (of any type V); no norm, no topology and no
    continuity is involved. Levels are 1, 2, ..., depth. *)
From Coq Require Import Arith Lia.
Set Implicit Arguments.

Section Causal.
Variables I V : Type.

(** n sweeps of Picard's iteration. *)
Fixpoint sweeps (G : (I -> V) -> I -> V) (n : nat) (y : I -> V) : I -> V :=
  match n with
  | O => y
  | S k => G (sweeps G k y)
  end.

(** Component i of G(y) is a function of the components of lower levels. *)
Definition causal (level : I -> nat) (G : (I -> V) -> I -> V) : Prop :=
  forall y z i, (forall j, level j < level i -> y j = z j) -> G y i = G z i.

Variables (level : I -> nat) (G : (I -> V) -> I -> V).
Hypothesis structure : causal level G.
Hypothesis from_one : forall i, 1 <= level i.

(** After n sweeps the components of levels up to n no longer depend on the start, and further sweeps keep them. *)
Lemma level_by_level n : forall m y z i, level i <= n -> n <= m -> sweeps G n y i = sweeps G m z i.
Proof.
  induction n as [|n IH]; intros m y z i low later.
  - pose proof (from_one i). lia.
  - destruct m as [|m]; [lia|]. simpl. apply structure. intros j lower. apply IH; lia.
Qed.

Theorem causal_ends (depth : nat) (start : I -> V) : (forall i, level i <= depth) ->
  exists s : I -> V,
    (forall i, G s i = s i) /\
    (forall t, (forall i, G t i = t i) -> forall i, t i = s i) /\
    (forall n y i, depth <= n -> sweeps G n y i = s i) /\
    (forall n y i, level i <= n -> sweeps G n y i = s i).
Proof.
  intros deep. exists (sweeps G depth start).
  assert (final : forall n y i, level i <= n -> sweeps G n y i = sweeps G depth start i).
  { intros n y i low. destruct (le_ge_dec n depth) as [less | more].
    - apply level_by_level; lia.
    - symmetry. apply level_by_level; [apply deep | lia]. }
  repeat split.
  - intros i. change (sweeps G (S depth) start i = sweeps G depth start i). apply final.
    specialize (deep i). lia.
  - intros t fixed i.
    assert (kept : forall n j, sweeps G n t j = t j).
    { intros n. induction n as [|n IH]; intros j; [reflexivity|].
      simpl. rewrite <- (fixed j). apply structure. intros k _. apply IH. }
    rewrite <- (kept depth i). apply final, deep.
  - intros n y i later. apply final. specialize (deep i). lia.
  - exact final.
Qed.
End Causal.
