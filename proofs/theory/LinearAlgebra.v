(** Square matrices that send nothing but 0 to 0 have inverses. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Vectors DotProduct.
Local Open Scope R_scope.
Set Implicit Arguments.

(** A vector from its first entry and the others. *)
Definition prepend (n : nat) (a : R) (x : vec n) : vec (S n) := fun i => Fin.caseS' i (fun _ => R) a x.

Lemma apply_prepend m n (M : mat m (S n)) a (x : vec n) i :
  apply M (prepend a x) i = M i Fin.F1 * a + sum (fun j => M i (Fin.FS j) * x j).
Proof. reflexivity. Qed.

(** More unknowns than equations: there is a solution other than 0. *)
Lemma kernel_vector n : forall m (M : mat n m), (n < m)%nat ->
  exists v : vec m, (exists i, v i <> 0) /\ forall i, apply M v i = 0.
Proof.
  induction n as [|n IH]; intros [|k] M wide; try lia.
  { exists (@first k). split; [exists Fin.F1; unfold first; rewrite unit_same; lra|].
    intros i. exact (Fin.case0 (fun i => apply M _ i = 0) i). }
  assert (pivot : forall M : mat (S n) (S k), M Fin.F1 Fin.F1 <> 0 ->
            exists v : vec (S k), (exists i, v i <> 0) /\ forall i, apply M v i = 0).
  { clear M. intros M a0. set (a := M Fin.F1 Fin.F1) in *.
    destruct (IH k (fun i l => M (Fin.FS i) (Fin.FS l) - M (Fin.FS i) Fin.F1 / a * M Fin.F1 (Fin.FS l)) ltac:(lia))
      as [v [[j some] none]].
    set (head := sum (fun l => M Fin.F1 (Fin.FS l) * v l)).
    exists (prepend (- head / a) v). split; [exists (Fin.FS j); exact some|].
    apply by_index.
    - rewrite apply_prepend. fold a head. field. exact a0.
    - intros i. rewrite apply_prepend. specialize (none i). unfold apply in none.
      rewrite (@sum_ext k _ (fun l => M (Fin.FS i) (Fin.FS l) * v l
                 - M (Fin.FS i) Fin.F1 / a * (M Fin.F1 (Fin.FS l) * v l))) in none by (intros l; ring).
      rewrite sum_sub, sum_scale in none. fold head in none.
      rewrite <- none. field. exact a0. }
  destruct (zero_or_not (M Fin.F1)) as [[j some]|zero].
  - destruct (Req_dec (M Fin.F1 Fin.F1) 0) as [empty|there]; [|exact (pivot M there)].
    destruct (pivot (fun i l => M i l + unit_matrix Fin.F1 l * M i j)) as [v [[i nonzero] none]].
    { rewrite unit_same, empty. lra. }
    assert (apart : j <> Fin.F1) by (intros ->; contradiction).
    exists (fun l => v l + unit_matrix j l * v Fin.F1). split.
    + destruct (Req_dec (v Fin.F1) 0) as [start|start].
      * exists i. rewrite start. lra.
      * exists Fin.F1. rewrite unit_apart by exact apart. lra.
    + intros l. rewrite <- (none l). unfold apply.
      rewrite (@sum_ext (S k) (fun h => M l h * (v h + unit_matrix j h * v Fin.F1))
                 (fun h => M l h * v h + unit_matrix j h * (M l h * v Fin.F1))) by (intros h; ring).
      rewrite (@sum_ext (S k) (fun h => (M l h + unit_matrix Fin.F1 h * M l j) * v h)
                 (fun h => M l h * v h + unit_matrix Fin.F1 h * (M l j * v h))) by (intros h; ring).
      now rewrite !sum_add, (sum_pick j (fun h => M l h * v Fin.F1)), (sum_pick Fin.F1 (fun h => M l j * v h)).
  - destruct (IH (S k) (fun i => M (Fin.FS i)) ltac:(lia)) as [v [some none]].
    exists v. split; [exact some|]. apply by_index; [|exact none].
    unfold apply. rewrite zero, (@sum_ext (S k) _ (fun _ => 0)), sum_zero by (intros l; ring). reflexivity.
Qed.

Lemma injective_onto n (A : mat n n) : (forall v, (forall i, apply A v i = 0) -> forall i, v i = 0) ->
  forall x, exists y, forall i, apply A y i = x i.
Proof.
  intros injective x.
  destruct (@kernel_vector n (S n) (fun i => prepend (- x i) (A i)) ltac:(lia)) as [v [[i some] none]].
  set (a := v Fin.F1).
  assert (rows : forall i, apply A (tail v) i = a * x i).
  { intros l. specialize (none l). unfold apply in none. simpl in none. unfold tail, prepend in none. simpl in none.
    unfold apply, tail. fold a in none. lra. }
  destruct (Req_dec a 0) as [zero|there].
  - exfalso. revert i some. apply (by_index (fun i => v i <> 0 -> False)); [intros some; exact (some zero)|].
    intros i some. apply some. apply (injective (tail v)). intros l. rewrite rows, zero. ring.
  - exists (fun j => / a * tail v j). intros l.
    transitivity (/ a * apply A (tail v) l); [|rewrite rows; field; exact there].
    unfold apply. rewrite <- sum_scale. apply sum_ext. intros j. ring.
Qed.

Lemma finite_choice n (T : Type) (P : Fin.t n -> T -> Prop) : (forall i, exists x, P i x) ->
  exists f, forall i, P i (f i).
Proof.
  induction n as [|n IH]; intros each.
  - exists (fun i => Fin.case0 (fun _ => T) i). intros i. exact (Fin.case0 (fun i => P i _) i).
  - destruct (each Fin.F1) as [x here]. destruct (IH (fun i => P (Fin.FS i)) (fun i => each (Fin.FS i))) as [f later].
    exists (fun i => Fin.caseS' i (fun _ => T) x f). apply by_index; [exact here | exact later].
Qed.

(** A right inverse, as a matrix. *)
Theorem inverse_matrix (n : nat) (A : mat n n) : (forall v, (forall i, apply A v i = 0) -> forall i, v i = 0) ->
  exists B : mat n n, forall x i, apply A (apply B x) i = x i.
Proof.
  intros injective.
  destruct (@finite_choice n (vec n) (fun j y => forall i, apply A y i = unit_matrix i j)) as [columns each].
  { intros j. exact (injective_onto A injective (fun i => unit_matrix i j)). }
  exists (fun i j => columns j i). intros x i. rewrite <- apply_times.
  rewrite <- (sum_pick i x). apply sum_ext. intros j. rewrite <- (each j i). reflexivity.
Qed.
