(** Lemma [slopes] for differentiable maps: the Jacobian on a convex set stands in for slope products, in conditions
    that are convex in it. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Activations Vectors VectorSpace DotProduct Slopes LinearAlgebra.
Local Open Scope R_scope.
Set Implicit Arguments.

(** The point z + t (y - z). *)
Definition along (n : nat) (z y : vec n) (t : R) : vec n := fun i => z i + t * difference y z i.

Definition convex_set (n : nat) (S : vec n -> Prop) : Prop :=
  forall y z t, S y -> S z -> 0 <= t <= 1 -> S (along z y t).

(** J(x) is the derivative of G at x along all directions in S. *)
Definition jacobian (n m : nat) (S : vec n -> Prop) (G : vec n -> vec m) (J : vec n -> mat m n) : Prop :=
  forall y z t, S y -> S z -> 0 <= t <= 1 ->
  forall i, derivable_pt_lim (fun h => G (along z y h) i) t (apply (J (along z y t)) (difference y z) i).

Lemma sum_derivative m (f : Fin.t m -> R -> R) (slope : vec m) (u : vec m) t :
  (forall i, derivable_pt_lim (f i) t (slope i)) ->
  derivable_pt_lim (fun h => sum (fun i => u i * f i h)) t (sum (fun i => u i * slope i)).
Proof.
  induction m as [|m IH]; intros each; simpl; [apply derivable_pt_lim_const|].
  apply (derivable_pt_lim_plus (fun h => u Fin.F1 * f Fin.F1 h)).
  - exact (derivable_pt_lim_scal (f Fin.F1) (u Fin.F1) t _ (each Fin.F1)).
  - exact (IH (fun i => f (Fin.FS i)) (tail slope) (tail u) (fun i => each (Fin.FS i))).
Qed.

(** For each linear functional there is a point of S where the Jacobian gives the difference. *)
Lemma jacobian_mean n m (S : vec n -> Prop) (G : vec n -> vec m) J (u : vec m) y z :
  convex_set S -> jacobian S G J -> S y -> S z ->
  exists x, S x /\ sum (fun i => u i * difference (G y) (G z) i) = sum (fun i => u i * apply (J x) (difference y z) i).
Proof.
  intros convex diff Sy Sz.
  destruct (MVT_cor2 (fun h => sum (fun i => u i * G (along z y h) i))
              (fun t => sum (fun i => u i * apply (J (along z y t)) (difference y z) i)) 0 1 Rlt_0_1)
    as [t [mean between]].
  - intros t range. apply (sum_derivative (fun i h => G (along z y h) i)). exact (diff y z t Sy Sz range).
  - exists (along z y t). split; [apply convex; auto; lra|].
    replace (along z y 1) with y in mean by (extensionality i; unfold along, difference; ring).
    replace (along z y 0) with z in mean by (extensionality i; unfold along, difference; ring).
    rewrite Rminus_0_r, Rmult_1_r in mean. rewrite <- mean, <- sum_sub. apply sum_ext. intros i. unfold difference.
    ring.
Qed.

Lemma linear_as_sum m (l : vec m -> R) : (forall x y, l (fun i => x i + y i) = l x + l y) ->
  (forall a x, l (fun i => a * x i) = a * l x) -> exists u : vec m, forall x, l x = sum (fun i => u i * x i).
Proof.
  induction m as [|m IH]; intros add scale.
  - exists (fun _ => 0). intros x. simpl. replace x with (fun i => 0 * x i); [rewrite scale; ring|].
    extensionality i. exact (Fin.case0 (fun i => 0 * x i = x i) i).
  - destruct (IH (fun x => l (later x))) as [u same].
    + intros x y. rewrite later_add. apply add.
    + intros a x. rewrite later_scale. apply scale.
    + exists (prepend (l (@first m)) u). intros x. rewrite (split_first x) at 1. rewrite add, scale, same. simpl.
      unfold tail. simpl. ring.
Qed.

Lemma sign_of a : exists s, Rabs s = 1 /\ s * a = Rabs a.
Proof.
  destruct (Rle_lt_dec 0 a) as [pos|neg].
  - exists 1. rewrite Rabs_R1, Rabs_right by lra. lra.
  - exists (-1). rewrite (Rabs_left a), Rabs_left by lra. lra.
Qed.

Section Bounds.
Variables (n m : nat) (S : vec n -> Prop) (G : vec n -> vec m) (J : vec n -> mat m n) (q : R).
Hypothesis convex : convex_set S.
Hypothesis diff : jacobian S G J.

(** N bounds the moduli of all Jacobians, entry by entry: T13's hypothesis. *)
Lemma jacobian_moduli (N : mat m n) : (forall x, S x -> forall i j, Rabs (J x i j) <= N i j) ->
  forall y z, S y -> S z -> forall i, Rabs (G y i - G z i) <= apply N (fun j => Rabs (y j - z j)) i.
Proof.
  intros bound y z Sy Sz i.
  destruct (jacobian_mean (unit_matrix i) y z convex diff Sy Sz) as [x [Sx mean]].
  rewrite !sum_pick in mean. unfold difference at 1 in mean. rewrite mean.
  apply Rle_trans with (1 := apply_abs (J x) (difference y z) i). apply sum_le. intros j.
  apply Rmult_le_compat_r; [apply Rabs_pos | apply bound; exact Sx].
Qed.

Lemma jacobian_sup (w : Fin.t n -> posreal) (w' : Fin.t m -> posreal) : 0 <= q ->
  (forall x, S x -> forall v, size (sup_norm w') (apply (J x) v) <= q * size (sup_norm w) v) ->
  forall y z, S y -> S z -> size (sup_norm w') (difference (G y) (G z)) <= q * size (sup_norm w) (difference y z).
Proof.
  intros q0 bound y z Sy Sz. apply most_lub; [apply Rmult_le_pos; [exact q0 | apply most_nonneg]|]. intros i.
  destruct (jacobian_mean (unit_matrix i) y z convex diff Sy Sz) as [x [Sx mean]].
  rewrite !sum_pick in mean. unfold weighed. rewrite mean.
  apply Rle_trans with (2 := bound x Sx (difference y z)).
  exact (most_term (weighed w' (apply (J x) (difference y z))) i).
Qed.

Lemma jacobian_sum (w : Fin.t n -> posreal) (w' : Fin.t m -> posreal) :
  (forall x, S x -> forall v, size (sum_norm w') (apply (J x) v) <= q * size (sum_norm w) v) ->
  forall y z, S y -> S z -> size (sum_norm w') (difference (G y) (G z)) <= q * size (sum_norm w) (difference y z).
Proof.
  intros bound y z Sy Sz.
  destruct (@finite_choice m R (fun i s => Rabs s = 1 /\ s * difference (G y) (G z) i =
    Rabs (difference (G y) (G z) i)))
    as [signs each]; [intros i; apply sign_of|].
  destruct (jacobian_mean (fun i => w' i * signs i) y z convex diff Sy Sz) as [x [Sx mean]].
  apply Rle_trans with (2 := bound x Sx (difference y z)). simpl.
  replace (sum (weighed w' (difference (G y) (G z)))) with (sum (fun i => w' i * signs i * difference (G y) (G z) i)).
  - rewrite mean. apply sum_le. intros i. unfold weighed. rewrite Rmult_assoc.
    apply Rmult_le_compat_l; [left; apply cond_pos|]. apply Rle_trans with (1 := Rle_abs _).
    rewrite Rabs_mult, (proj1 (each i)). lra.
  - apply sum_ext. intros i. unfold weighed. rewrite Rmult_assoc, (proj2 (each i)). reflexivity.
Qed.
End Bounds.

Section Inner.
Variables (n : nat) (D : dot_product n) (S : vec n -> Prop) (G : vec n -> vec n) (J : vec n -> mat n n) (q : R).
Hypothesis convex : convex_set S.
Hypothesis diff : jacobian S G J.

Lemma jacobian_dot u y z : S y -> S z ->
  exists x, S x /\ dot D (difference (G y) (G z)) u = dot D (apply (J x) (difference y z)) u.
Proof.
  intros Sy Sz. destruct (@linear_as_sum n (fun v => dot D v u)) as [l same].
  - intros x x'. apply dot_add.
  - intros a x. apply dot_scale.
  - destruct (jacobian_mean l y z convex diff Sy Sz) as [x [Sx mean]]. exists x. split; [exact Sx|].
    now rewrite !same.
Qed.

Lemma jacobian_length : (forall x, S x -> forall v, length D (apply (J x) v) <= q * length D v) ->
  forall y z, S y -> S z -> length D (difference (G y) (G z)) <= q * length D (difference y z).
Proof.
  intros bound y z Sy Sz. set (g := difference (G y) (G z)).
  destruct (jacobian_dot g Sy Sz) as [x [Sx mean]]. fold g in mean. rewrite <- length_square in mean.
  pose proof (bound x Sx (difference y z)) as here. set (v := apply (J x) (difference y z)) in *.
  pose proof (dot_cauchy_schwarz D v g) as cs. rewrite <- mean, <- !length_square in cs.
  pose proof (sqrt_pos (dot D g g)) as g0. pose proof (sqrt_pos (dot D v v)) as v0. fold (length D g) (length D v) in *.
  apply Rle_trans with (2 := here). set (a := length D g) in *. set (b := length D v) in *.
  destruct g0 as [g0|<-]; [|exact v0]. apply Rnot_lt_le. intros above.
  assert (b * b < a * a) by nra. assert (b * b * (a * a) < a * a * (a * a)) by (apply Rmult_lt_compat_r; nra). lra.
Qed.

Lemma jacobian_one_sided : (forall x, S x -> forall v, dot D (apply (J x) v) v <= q * dot D v v) ->
  forall y z, S y -> S z ->
  dot D (difference (G y) (G z)) (difference y z) <= q * dot D (difference y z) (difference y z).
Proof.
  intros bound y z Sy Sz. destruct (jacobian_dot (difference y z) Sy Sz) as [x [Sx ->]]. exact (bound x Sx _).
Qed.
End Inner.

(** Constants in weighted linf, weighted l1 and every inner product's norm, one-sided constants, moduli. *)
Theorem slopes_jacobian (n : nat) (S : vec n -> Prop) (G : vec n -> vec n) (J : vec n -> mat n n) (q : R) :
  convex_set S -> jacobian S G J ->
  (forall w : Fin.t n -> posreal, 0 <= q ->
     (forall x, S x -> forall v, size (sup_norm w) (apply (J x) v) <= q * size (sup_norm w) v) ->
     forall y z, S y -> S z -> size (sup_norm w) (difference (G y) (G z)) <= q * size (sup_norm w) (difference y z))
  /\ (forall w : Fin.t n -> posreal,
     (forall x, S x -> forall v, size (sum_norm w) (apply (J x) v) <= q * size (sum_norm w) v) ->
     forall y z, S y -> S z -> size (sum_norm w) (difference (G y) (G z)) <= q * size (sum_norm w) (difference y z))
  /\ (forall D : dot_product n, (forall x, S x -> forall v, length D (apply (J x) v) <= q * length D v) ->
     forall y z, S y -> S z -> length D (difference (G y) (G z)) <= q * length D (difference y z))
  /\ (forall D : dot_product n, (forall x, S x -> forall v, dot D (apply (J x) v) v <= q * dot D v v) ->
     forall y z, S y -> S z ->
     dot D (difference (G y) (G z)) (difference y z) <= q * dot D (difference y z) (difference y z))
  /\ (forall N : mat n n, (forall x, S x -> forall i j, Rabs (J x i j) <= N i j) ->
     forall y z, S y -> S z -> forall i, Rabs (G y i - G z i) <= apply N (fun j => Rabs (y j - z j)) i).
Proof.
  intros convex diff. split; [|split; [|split; [|split]]].
  - intros w q0 bound. exact (@jacobian_sup n n S G J q convex diff w w q0 bound).
  - intros w bound. exact (@jacobian_sum n n S G J q convex diff w w bound).
  - intros D bound. exact (@jacobian_length n D S G J q convex diff bound).
  - intros D bound. exact (@jacobian_one_sided n D S G J q convex diff bound).
  - intros N bound. exact (@jacobian_moduli n n S G J convex diff N bound).
Qed.

(** The hypotheses can be met: the Jacobian of tanh(W y + c). *)
Theorem slopes_jacobian_instance (n m : nat) (W : mat m n) (c : vec m) :
  convex_set (fun _ : vec n => True)
  /\ jacobian (fun _ => True) (fun y i => tanh (apply W y i + c i))
       (fun y i j => / (cosh (apply W y i + c i) * cosh (apply W y i + c i)) * W i j).
Proof.
  split; [intros y z t _ _ _; exact I|]. intros y z t _ _ _ i.
  assert (line : forall h, apply W (along z y h) i + c i = apply W z i + c i + apply W (difference y z) i * h).
  { intros h. unfold along, apply.
    rewrite (@sum_ext n _ (fun j => W i j * z j + h * (W i j * difference y z j))) by (intros j; ring).
    rewrite sum_add, sum_scale. ring. }
  assert (inside : derivable_pt_lim (fun h => apply W (along z y h) i + c i) t (0 + apply W (difference y z) i * 1)).
  { replace (fun h => apply W (along z y h) i + c i) with (fun h => apply W z i + c i + apply W (difference y z) i * h)
      by (extensionality h; symmetry; apply line).
    apply (derivable_pt_lim_plus (fun _ => apply W z i + c i) (fun h => apply W (difference y z) i * h)).
    - apply derivable_pt_lim_const.
    - exact (derivable_pt_lim_scal (fun h => h) _ t 1 (derivable_pt_lim_id t)). }
  rewrite Rplus_0_l, Rmult_1_r in inside. rewrite apply_scaled_rows.
  exact (derivable_pt_lim_comp (fun h => apply W (along z y h) i + c i) tanh t _ _ inside (tanh_derivative _)).
Qed.
