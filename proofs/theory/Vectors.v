(** R^n as functions of n indices, with finite sums, maxima and matrices: what the theorems about slopes need. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
Local Open Scope R_scope.
Set Implicit Arguments.

Definition vec (n : nat) : Type := Fin.t n -> R.
Definition mat (m n : nat) : Type := Fin.t m -> Fin.t n -> R.

Definition tail (n : nat) (x : vec (S n)) : vec n := fun i => x (Fin.FS i).

Fixpoint sum (n : nat) : vec n -> R :=
  match n with
  | O => fun _ => 0
  | S k => fun x => x Fin.F1 + sum (tail x)
  end.

(** The largest of 0 and all entries. *)
Fixpoint most (n : nat) : vec n -> R :=
  match n with
  | O => fun _ => 0
  | S k => fun x => Rmax (x Fin.F1) (most (tail x))
  end.

Definition difference (n : nat) (x y : vec n) : vec n := fun i => x i - y i.
Definition apply (m n : nat) (A : mat m n) (x : vec n) : vec m := fun i => sum (fun j => A i j * x j).
Definition times (l m n : nat) (A : mat l m) (B : mat m n) : mat l n := fun i k => sum (fun j => A i j * B j k).
Definition unit_matrix (n : nat) : mat n n := fun i j => if Fin.eq_dec i j then 1 else 0.

(** Every index is the first or a later one. *)
Lemma by_index n (P : Fin.t (S n) -> Prop) : P Fin.F1 -> (forall i, P (Fin.FS i)) -> forall i, P i.
Proof. intros first later i. exact (Fin.caseS' i P first later). Qed.

Lemma sum_ext n (x y : vec n) : (forall i, x i = y i) -> sum x = sum y.
Proof. intros same. f_equal. extensionality i. apply same. Qed.

Lemma sum_add n (x y : vec n) : sum (fun i => x i + y i) = sum x + sum y.
Proof.
  induction n as [|n IH]; simpl; [ring|].
  pose proof (IH (tail x) (tail y)) as later. unfold tail in *. rewrite later. ring.
Qed.

Lemma sum_scale n c (x : vec n) : sum (fun i => c * x i) = c * sum x.
Proof.
  induction n as [|n IH]; simpl; [ring|].
  pose proof (IH (tail x)) as later. unfold tail in *. rewrite later. ring.
Qed.

Lemma sum_sub n (x y : vec n) : sum (fun i => x i - y i) = sum x - sum y.
Proof.
  replace (sum x - sum y) with (sum x + -1 * sum y) by ring. rewrite <- sum_scale, <- sum_add.
  apply sum_ext. intros i. ring.
Qed.

Lemma sum_le n (x y : vec n) : (forall i, x i <= y i) -> sum x <= sum y.
Proof.
  induction n as [|n IH]; simpl; intros below; [lra|].
  apply Rplus_le_compat; [apply below | apply IH; intros i; apply below].
Qed.

Lemma sum_zero n : sum (fun _ : Fin.t n => 0) = 0.
Proof. induction n as [|n IH]; simpl; [reflexivity|]. unfold tail. rewrite IH. ring. Qed.

Lemma sum_nonneg n (x : vec n) : (forall i, 0 <= x i) -> 0 <= sum x.
Proof. intros pos. rewrite <- (sum_zero n). apply sum_le. exact pos. Qed.

Lemma sum_term n (x : vec n) : (forall i, 0 <= x i) -> forall i, x i <= sum x.
Proof.
  induction n as [|n IH]; intros pos i; [exact (Fin.case0 (fun i => x i <= _) i)|].
  revert i. apply by_index; simpl.
  - assert (0 <= sum (tail x)) by (apply sum_nonneg; intros i; apply pos). lra.
  - intros i. pose proof (IH (tail x) (fun j => pos (Fin.FS j)) i) as later. unfold tail at 1 in later.
    pose proof (pos Fin.F1). lra.
Qed.

Lemma sum_abs n (x : vec n) : Rabs (sum x) <= sum (fun i => Rabs (x i)).
Proof.
  induction n as [|n IH]; simpl; [rewrite Rabs_R0; lra|].
  apply Rle_trans with (1 := Rabs_triang _ _). apply Rplus_le_compat_l. exact (IH (tail x)).
Qed.

Lemma sum_swap m n (A : mat m n) : sum (fun i => sum (fun j => A i j)) = sum (fun j => sum (fun i => A i j)).
Proof.
  induction m as [|m IH]; simpl; [now rewrite sum_zero|].
  pose proof (IH (fun i j => A (Fin.FS i) j)) as later. unfold tail in *. rewrite later, <- sum_add. reflexivity.
Qed.

Lemma unit_same n (i : Fin.t n) : unit_matrix i i = 1.
Proof. unfold unit_matrix. destruct (Fin.eq_dec i i); [reflexivity | contradiction]. Qed.

Lemma unit_apart n (i j : Fin.t n) : i <> j -> unit_matrix i j = 0.
Proof. intros apart. unfold unit_matrix. destruct (Fin.eq_dec i j); [contradiction | reflexivity]. Qed.

Lemma unit_later n (i j : Fin.t n) : unit_matrix (Fin.FS i) (Fin.FS j) = unit_matrix i j.
Proof.
  destruct (Fin.eq_dec i j) as [<-|apart]; [now rewrite !unit_same|].
  rewrite (unit_apart apart), unit_apart; [reflexivity|]. intros same. exact (apart (Fin.FS_inj _ _ same)).
Qed.

Lemma sum_pick n (i : Fin.t n) (x : vec n) : sum (fun j => unit_matrix i j * x j) = x i.
Proof.
  revert i. induction n as [|n IH]; intros i; [exact (Fin.case0 (fun i => _ = x i) i)|].
  revert i. apply by_index.
  - simpl. unfold tail. rewrite unit_same, (@sum_ext n _ (fun _ => 0)), sum_zero; [ring|].
    intros i. rewrite unit_apart; [ring | discriminate].
  - intros i. simpl. rewrite unit_apart by discriminate. rewrite Rmult_0_l, Rplus_0_l.
    rewrite <- (IH (tail x) i : _ = x (Fin.FS i)). apply sum_ext. intros j. unfold tail. now rewrite unit_later.
Qed.

Lemma most_nonneg n (x : vec n) : 0 <= most x.
Proof. induction n as [|n IH]; simpl; [lra|]. exact (Rle_trans _ _ _ (IH (tail x)) (Rmax_r _ _)). Qed.

Lemma most_term n (x : vec n) i : x i <= most x.
Proof.
  induction n as [|n IH]; [exact (Fin.case0 (fun i => x i <= _) i)|]. revert i. apply by_index; simpl.
  - apply Rmax_l.
  - intros i. exact (Rle_trans _ _ _ (IH (tail x) i) (Rmax_r _ _)).
Qed.

Lemma most_lub n (x : vec n) c : 0 <= c -> (forall i, x i <= c) -> most x <= c.
Proof.
  intros c0. induction n as [|n IH]; simpl; intros below; [exact c0|].
  apply Rmax_lub; [apply below | apply IH; intros i; apply below].
Qed.

Lemma apply_unit n (x : vec n) : apply (@unit_matrix n) x = x.
Proof. extensionality i. apply sum_pick. Qed.

Lemma apply_times l m n (A : mat l m) (B : mat m n) x : apply (times A B) x = apply A (apply B x).
Proof.
  extensionality i. unfold apply, times.
  rewrite (@sum_ext n _ (fun k => sum (fun j => A i j * B j k * x k))).
  - rewrite (sum_swap (fun k j => A i j * B j k * x k)). apply sum_ext. intros j.
    rewrite <- sum_scale. apply sum_ext. intros k. ring.
  - intros k. rewrite (Rmult_comm (sum _)), <- sum_scale. apply sum_ext. intros j. ring.
Qed.

Lemma apply_difference m n (A : mat m n) x y : apply A (difference x y) = difference (apply A x) (apply A y).
Proof.
  extensionality i. unfold apply, difference. rewrite <- sum_sub. apply sum_ext. intros j. ring.
Qed.

Lemma apply_abs m n (A : mat m n) x i : Rabs (apply A x i) <= sum (fun j => Rabs (A i j) * Rabs (x j)).
Proof.
  apply Rle_trans with (1 := sum_abs _). right. apply sum_ext. intros j. apply Rabs_mult.
Qed.

(** Points and matrices of the plane, for examples. *)
Definition pair (a b : R) : vec 2 := fun i => Fin.caseS' i (fun _ => R) a (fun _ => b).
Definition square (a b c d : R) : mat 2 2 := fun i => Fin.caseS' i (fun _ => vec 2) (pair a b) (fun _ => pair c d).

Lemma sum_pair (x : vec 2) : sum x = x Fin.F1 + x (Fin.FS Fin.F1).
Proof. simpl. unfold tail. ring. Qed.

Lemma apply_square a b c d (x : vec 2) :
  apply (square a b c d) x = pair (a * x Fin.F1 + b * x (Fin.FS Fin.F1)) (c * x Fin.F1 + d * x (Fin.FS Fin.F1)).
Proof.
  extensionality i. unfold apply. rewrite sum_pair. revert i. apply by_index; [reflexivity|].
  apply by_index; [reflexivity|]. intros i. exact (Fin.case0 (fun _ => _) i).
Qed.

Lemma by_pair (P : Fin.t 2 -> Prop) : P Fin.F1 -> P (Fin.FS Fin.F1) -> forall i, P i.
Proof.
  intros one two. apply by_index; [exact one|]. apply by_index; [exact two|].
  intros i. exact (Fin.case0 (fun i => P (Fin.FS (Fin.FS i))) i).
Qed.
